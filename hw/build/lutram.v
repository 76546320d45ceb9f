// A memory of one port, 64 words of 4 bits, in a RAM64M: see lutram.txt.

module \$__LUTRAM_64X4_ (...);
    parameter [255:0] INIT = 0;
    parameter WIDTH = 4, BITS_USED = 0;

    input PORT_RW_CLK, PORT_RW_WR_EN;
    input [5:0] PORT_RW_ADDR;
    input [WIDTH-1:0] PORT_RW_WR_DATA;
    output [WIDTH-1:0] PORT_RW_RD_DATA;

    function [63:0] slice(input integer bit_);
        integer i;
        for (i = 0; i < 64; i = i + 1) slice[i] = INIT[i * WIDTH + bit_];
    endfunction

    RAM64M #(
        .INIT_A(slice(0)), .INIT_B(slice(1)), .INIT_C(slice(2)), .INIT_D(slice(3))
    ) _TECHMAP_REPLACE_ (
        .WCLK(PORT_RW_CLK), .WE(PORT_RW_WR_EN),
        .ADDRA(PORT_RW_ADDR), .ADDRB(PORT_RW_ADDR), .ADDRC(PORT_RW_ADDR), .ADDRD(PORT_RW_ADDR),
        .DIA(PORT_RW_WR_DATA[0]), .DIB(PORT_RW_WR_DATA[1]),
        .DIC(PORT_RW_WR_DATA[2]), .DID(PORT_RW_WR_DATA[3]),
        .DOA(PORT_RW_RD_DATA[0]), .DOB(PORT_RW_RD_DATA[1]),
        .DOC(PORT_RW_RD_DATA[2]), .DOD(PORT_RW_RD_DATA[3])
    );
endmodule
