// Registers in the pads of Lattice ECP5, as far as `hw.sdram_pads` uses them; all begin as 0.

module OFS1P3DX (input SCLK, SP, CD, D, output reg Q);
    initial Q = 0;
    always @(posedge SCLK) if (SP) Q <= D;
endmodule

module IFS1P3DX (input SCLK, SP, CD, D, output reg Q);
    initial Q = 0;
    always @(posedge SCLK) if (SP) Q <= D;
endmodule

// As a clock's output only: the two cycles that its data takes are not modelled.
module ODDRX1F (input SCLK, RST, D0, D1, output Q);
    assign Q = SCLK ? D0 : D1;
endmodule
