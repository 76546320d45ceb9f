// A dual-port block RAM with one clock: what the vendors' primitives in this folder have in common.
//
// Memory is rows of 8 bytes of 9 bits. Addresses count bits of the narrowest shape, 8 of them to a
// byte (its ninth bit is only reached by ports of 9 bits or more), as both vendors number them.
// A port of W bits uses the lowest W bits of di and do, and enable i of `we` for its i-th byte.
//
// A port that reads what it writes itself follows its mode: "READ_FIRST" the old word,
// "WRITE_FIRST" the new bytes, "NO_CHANGE" keeps its output. Bits that one port reads while the
// other writes them are the old ones if OLD_x says that the vendor promises so, else unknown; bits
// that both write with different values become unknown. Unknown is X in a simulator that has it,
// and noise in Verilator: a design that relies on such a bit fails its checks.
// With BLOCK_RAM_STRICT nothing is promised between ports.

module sim_block_ram #(
    parameter BYTES = 4096,
    parameter READ_A = 36, WRITE_A = 36, READ_B = 36, WRITE_B = 36,
    parameter MODE_A = "READ_FIRST", MODE_B = "READ_FIRST",
    parameter OLD_A = 0,    // what port A writes, port B reads as it was
    parameter OLD_B = 0,    // what port B writes, port A reads as it was
    parameter [9*BYTES-1:0] INIT = 0,
    parameter [71:0] OUT_A = 0, OUT_B = 0,          // output before the first read
    parameter [71:0] RESET_A = 0, RESET_B = 0
) (
    input clk,
    input en_a, en_b, reset_a, reset_b,
    input [7:0] we_a, we_b,
    input [15:0] address_a, address_b,
    input [71:0] di_a, di_b,
    output reg [71:0] do_a, do_b
);
    localparam ROWS = BYTES / 8, BITS = $clog2(ROWS);
`ifdef BLOCK_RAM_STRICT
    localparam PROMISED_A = 0, PROMISED_B = 0;
`else
    localparam PROMISED_A = OLD_A, PROMISED_B = OLD_B;
`endif

    reg [71:0] rows [0:ROWS-1];
    integer i;
    initial begin
        for (i = 0; i < ROWS; i = i + 1) rows[i] = INIT[72*i +: 72];
        do_a = OUT_A;
        do_b = OUT_B;
    end

`ifdef VERILATOR
    reg [71:0] noise = 72'h9E3779B97F4A7C15F3;
    wire [71:0] unknown = noise;
`else
    wire [71:0] unknown = 72'bx;
`endif

    // First bit of a port's window in its row.
    function [6:0] first(input integer width, input [15:0] address);
        if (width < 9) first = 9 * address[5:3] + (address[2:0] & ~(width[2:0] - 3'd1));
        else first = 9 * (address[5:3] & ~(width[6:0] / 7'd9 - 7'd1));
    endfunction

    function [71:0] window(input integer width);
        window = width == 0 ? 72'b0 : ~72'b0 >> (72 - width);
    endfunction

    // Bits of a port's window that it writes.
    function [71:0] written(input integer width, input [7:0] we);
        if (width == 0) written = 72'b0;
        else if (width <= 9) written = we[0] ? window(width) : 72'b0;
        else written = window(width) & {{9{we[7]}}, {9{we[6]}}, {9{we[5]}}, {9{we[4]}},
                                        {9{we[3]}}, {9{we[2]}}, {9{we[1]}}, {9{we[0]}}};
    endfunction

    wire [BITS-1:0] row_a = address_a[6 +: BITS], row_b = address_b[6 +: BITS];
    wire [6:0] write_at_a = first(WRITE_A, address_a), write_at_b = first(WRITE_B, address_b);
    wire [6:0] read_at_a = first(READ_A, address_a), read_at_b = first(READ_B, address_b);
    wire [71:0] mask_a = en_a ? written(WRITE_A, we_a) << write_at_a : 72'b0;
    wire [71:0] mask_b = en_b ? written(WRITE_B, we_b) << write_at_b : 72'b0;

    reg [71:0] seen_a, seen_b, clash;
    always @(posedge clk) begin
        seen_a = rows[row_a];
        seen_b = rows[row_b];
        if (row_a == row_b && (|mask_a || |mask_b)) begin
`ifdef VERILATOR
            noise = noise ^ (noise << 25);
            noise = noise ^ (noise >> 35);
            noise = noise ^ (noise << 12);
`endif
            clash = mask_a & mask_b & ((di_a << write_at_a) ^ (di_b << write_at_b));
            if (!PROMISED_B) seen_a = seen_a & ~mask_b | unknown & mask_b;
            if (!PROMISED_A) seen_b = seen_b & ~mask_a | unknown & mask_a;
        end else clash = 0;
        // Two partial writes of one row add up: the second starts from what the first has left.
        if (|mask_a) rows[row_a] = rows[row_a] & ~mask_a | (di_a << write_at_a) & mask_a;
        if (|mask_b) rows[row_b] = rows[row_b] & ~mask_b | (di_b << write_at_b) & mask_b;
        if (|clash) rows[row_a] = rows[row_a] & ~clash | unknown & clash;
        if (MODE_A == "WRITE_FIRST") seen_a = seen_a & ~mask_a | (di_a << write_at_a) & mask_a;
        if (MODE_B == "WRITE_FIRST") seen_b = seen_b & ~mask_b | (di_b << write_at_b) & mask_b;
        if (READ_A != 0 && en_a) begin
            if (reset_a) do_a <= RESET_A;
            else if (MODE_A != "NO_CHANGE" || ~|mask_a)
                do_a <= seen_a >> read_at_a & window(READ_A);
        end
        if (READ_B != 0 && en_b) begin
            if (reset_b) do_b <= RESET_B;
            else if (MODE_B != "NO_CHANGE" || ~|mask_b)
                do_b <= seen_b >> read_at_b & window(READ_B);
        end
    end
endmodule
