// Block RAM and multiplier of Lattice ECP5. Yosys has only the ports of these cells.
//
// Lattice (TN1264) promises nothing where one port reads what the other writes, in any mode.
// With 36 bits on a port the cell is a simple dual port: A writes, B reads, on both ports' pins.
// Address bits 0 to 3, which wide ports do not need, are their byte enables.
// Both ports have one clock here; output registers are not modelled and a reset of an output makes
// it unknown.

module DP16KD (
    input CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
        DIA4, DIA3, DIA2, DIA1, DIA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
        DOA4, DOA3, DOA2, DOA1, DOA0,
    input CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
        DIB4, DIB3, DIB2, DIB1, DIB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
        DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter integer DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", GSR = "ENABLED";
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", INIT_DATA = "STATIC";
    parameter [319:0]
        INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0,
        INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0,
        INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0,
        INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
        INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0,
        INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0,
        INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0,
        INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
        INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0,
        INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0, INITVAL_30 = 0, INITVAL_31 = 0,
        INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
        INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
        INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

    // Elaboration fails on what is not modelled, naming it.
    generate
        if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG")
            block_ram_output_register_is_not_modelled stop();
        if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000")
            block_ram_chip_select_is_not_modelled stop();
        if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
            block_ram_inverted_clock_is_not_modelled stop();
    endgenerate

    localparam [64*320-1:0] CONTENT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
        INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
        INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
        INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
        INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};

    // 16 words of 18 bits to a parameter, each padded to 20.
    function [1024*18-1:0] packed_content(input [64*320-1:0] given);
        integer i;
        for (i = 0; i < 1024; i = i + 1) packed_content[18*i +: 18] = given[20*i +: 18];
    endfunction

    localparam WIDE_WRITE = DATA_WIDTH_A == 36, WIDE_READ = DATA_WIDTH_B == 36;
    localparam SIMPLE = WIDE_WRITE || WIDE_READ;
    localparam MODE_A = WRITEMODE_A == "READBEFOREWRITE" ? "READ_FIRST" :
                        WRITEMODE_A == "WRITETHROUGH" ? "WRITE_FIRST" : "NO_CHANGE";
    localparam MODE_B = WRITEMODE_B == "READBEFOREWRITE" ? "READ_FIRST" :
                        WRITEMODE_B == "WRITETHROUGH" ? "WRITE_FIRST" : "NO_CHANGE";

    wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] di_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
            DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [17:0] di_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
            DIB4, DIB3, DIB2, DIB1, DIB0};
    wire chosen_a = CEA && {CSA2, CSA1, CSA0} == 0, chosen_b = CEB && {CSB2, CSB1, CSB0} == 0;
    wire [3:0] bytes_a = DATA_WIDTH_A >= 36 ? address_a[3:0] :
                         DATA_WIDTH_A == 18 ? {2'b0, address_a[1:0]} : 4'b1;
    wire [3:0] bytes_b = DATA_WIDTH_B == 18 ? {2'b0, address_b[1:0]} : 4'b1;

    wire [71:0] do_a, do_b;
    sim_block_ram #(
        .BYTES(2048), .READ_A(SIMPLE ? 0 : DATA_WIDTH_A), .WRITE_A(DATA_WIDTH_A),
        .READ_B(DATA_WIDTH_B), .WRITE_B(SIMPLE ? 0 : DATA_WIDTH_B),
        .MODE_A(MODE_A), .MODE_B(MODE_B), .INIT(packed_content(CONTENT))
    ) ram (
        .clk(CLKA), .en_a(chosen_a), .en_b(chosen_b), .reset_a(1'b0), .reset_b(1'b0),
        .we_a({4'b0, bytes_a & {4{WEA}}}), .we_b({4'b0, bytes_b & {4{WEB}}}),
        .address_a({2'b0, address_a}), .address_b({2'b0, address_b}),
        .di_a(WIDE_WRITE ? {36'b0, di_b, di_a} : {54'b0, di_a}), .di_b({54'b0, di_b}),
        .do_a(do_a), .do_b(do_b)
    );

    reg cleared_a = 0, cleared_b = 0;
    always @(posedge CLKA) begin
        if (CEA || RSTA) cleared_a <= RSTA;
        if (CEB || RSTB) cleared_b <= RSTB;
    end
`ifdef VERILATOR
    wire [17:0] unknown = 18'h2A5C3;
`else
    wire [17:0] unknown = 18'bx;
`endif
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
            DOA4, DOA3, DOA2, DOA1, DOA0} =
        (WIDE_READ ? cleared_b : cleared_a) ? unknown : WIDE_READ ? do_b[17:0] : do_a[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
            DOB4, DOB3, DOB2, DOB1, DOB0} =
        cleared_b ? unknown : WIDE_READ ? do_b[35:18] : do_b[17:0];
endmodule

// The multiplier without any of its registers. Shift chains and the C input are not modelled.
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0,
    input RST3, RST2, RST1, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
        P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0,
    output SIGNEDP
);
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_INPUTC_CLK = "NONE";
    parameter REG_PIPELINE_CLK = "NONE", REG_OUTPUT_CLK = "NONE";
    parameter SOURCEB_MODE = "B_SHIFT", MULT_BYPASS = "DISABLED";

    generate
        if (REG_INPUTA_CLK != "NONE" || REG_INPUTB_CLK != "NONE" || REG_INPUTC_CLK != "NONE"
            || REG_PIPELINE_CLK != "NONE" || REG_OUTPUT_CLK != "NONE")
            multiplier_register_is_not_modelled stop();
        if (MULT_BYPASS != "DISABLED") multiplier_bypass_is_not_modelled stop();
    endgenerate

    wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire signed [18:0] signed_a = {SIGNEDA & a[17], a}, signed_b = {SIGNEDB & b[17], b};
    wire signed [37:0] product = signed_a * signed_b;
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
            P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product[35:0];
    assign SIGNEDP = SIGNEDA | SIGNEDB;
endmodule
