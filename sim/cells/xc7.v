// Block RAM of Xilinx 7 series. Yosys has only the ports of these cells.
//
// What the user guide (UG473) promises where both ports meet, with one clock: a port reads old data
// where the other writes in READ_FIRST mode, and unreliable data where it writes in another mode.
// Both ports have one clock here; the output registers, cascades and ECC are not modelled.

module RAMB18E1 (
    input CLKARDCLK, CLKBWRCLK, ENARDEN, ENBWREN, REGCEAREGCE, REGCEB,
    input RSTRAMARSTRAM, RSTRAMB, RSTREGARSTREG, RSTREGB,
    input [13:0] ADDRARDADDR, ADDRBWRADDR,
    input [15:0] DIADI, DIBDI,
    input [1:0] DIPADIP, DIPBDIP,
    input [1:0] WEA,
    input [3:0] WEBWE,
    output [15:0] DOADO, DOBDO,
    output [1:0] DOPADOP, DOPBDOP
);
    parameter integer DOA_REG = 0, DOB_REG = 0;
    parameter integer READ_WIDTH_A = 0, READ_WIDTH_B = 0, WRITE_WIDTH_A = 0, WRITE_WIDTH_B = 0;
    parameter RAM_MODE = "TDP", WRITE_MODE_A = "WRITE_FIRST", WRITE_MODE_B = "WRITE_FIRST";
    parameter RDADDR_COLLISION_HWCONFIG = "DELAYED_WRITE";
    parameter [71:0] INIT_A = 0, INIT_B = 0, SRVAL_A = 0, SRVAL_B = 0;
    parameter [0:0] IS_CLKARDCLK_INVERTED = 0, IS_CLKBWRCLK_INVERTED = 0;
    parameter [0:0] IS_ENARDEN_INVERTED = 0, IS_ENBWREN_INVERTED = 0;
    parameter [0:0] IS_RSTRAMARSTRAM_INVERTED = 0, IS_RSTRAMB_INVERTED = 0;
    parameter [0:0] IS_RSTREGARSTREG_INVERTED = 0, IS_RSTREGB_INVERTED = 0;
    parameter [255:0]
        INIT_00 = 0, INIT_01 = 0, INIT_02 = 0, INIT_03 = 0, INIT_04 = 0, INIT_05 = 0,
        INIT_06 = 0, INIT_07 = 0, INIT_08 = 0, INIT_09 = 0, INIT_0A = 0, INIT_0B = 0,
        INIT_0C = 0, INIT_0D = 0, INIT_0E = 0, INIT_0F = 0, INIT_10 = 0, INIT_11 = 0,
        INIT_12 = 0, INIT_13 = 0, INIT_14 = 0, INIT_15 = 0, INIT_16 = 0, INIT_17 = 0,
        INIT_18 = 0, INIT_19 = 0, INIT_1A = 0, INIT_1B = 0, INIT_1C = 0, INIT_1D = 0,
        INIT_1E = 0, INIT_1F = 0, INIT_20 = 0, INIT_21 = 0, INIT_22 = 0, INIT_23 = 0,
        INIT_24 = 0, INIT_25 = 0, INIT_26 = 0, INIT_27 = 0, INIT_28 = 0, INIT_29 = 0,
        INIT_2A = 0, INIT_2B = 0, INIT_2C = 0, INIT_2D = 0, INIT_2E = 0, INIT_2F = 0,
        INIT_30 = 0, INIT_31 = 0, INIT_32 = 0, INIT_33 = 0, INIT_34 = 0, INIT_35 = 0,
        INIT_36 = 0, INIT_37 = 0, INIT_38 = 0, INIT_39 = 0, INIT_3A = 0, INIT_3B = 0,
        INIT_3C = 0, INIT_3D = 0, INIT_3E = 0, INIT_3F = 0;
    parameter [255:0]
        INITP_00 = 0, INITP_01 = 0, INITP_02 = 0, INITP_03 = 0, INITP_04 = 0, INITP_05 = 0,
        INITP_06 = 0, INITP_07 = 0;

    // Elaboration fails on what is not modelled, naming it.
    generate
        if (DOA_REG != 0 || DOB_REG != 0) block_ram_output_register_is_not_modelled stop();
        if (IS_CLKARDCLK_INVERTED || IS_CLKBWRCLK_INVERTED || IS_ENARDEN_INVERTED
            || IS_ENBWREN_INVERTED || IS_RSTRAMARSTRAM_INVERTED || IS_RSTRAMB_INVERTED)
            block_ram_inverted_pin_is_not_modelled stop();
        if (RDADDR_COLLISION_HWCONFIG != "DELAYED_WRITE")
            block_ram_performance_mode_is_not_modelled stop();
    endgenerate

    localparam [16383:0] CONTENT = {
        INIT_3F, INIT_3E, INIT_3D, INIT_3C, INIT_3B, INIT_3A, INIT_39, INIT_38,
        INIT_37, INIT_36, INIT_35, INIT_34, INIT_33, INIT_32, INIT_31, INIT_30,
        INIT_2F, INIT_2E, INIT_2D, INIT_2C, INIT_2B, INIT_2A, INIT_29, INIT_28,
        INIT_27, INIT_26, INIT_25, INIT_24, INIT_23, INIT_22, INIT_21, INIT_20,
        INIT_1F, INIT_1E, INIT_1D, INIT_1C, INIT_1B, INIT_1A, INIT_19, INIT_18,
        INIT_17, INIT_16, INIT_15, INIT_14, INIT_13, INIT_12, INIT_11, INIT_10,
        INIT_0F, INIT_0E, INIT_0D, INIT_0C, INIT_0B, INIT_0A, INIT_09, INIT_08,
        INIT_07, INIT_06, INIT_05, INIT_04, INIT_03, INIT_02, INIT_01, INIT_00};
    localparam [2047:0] PARITY = {
        INITP_07, INITP_06, INITP_05, INITP_04, INITP_03, INITP_02, INITP_01, INITP_00};

    function [18431:0] interleaved(input [16383:0] data, input [2047:0] parity);
        integer i;
        for (i = 0; i < 2048; i = i + 1) interleaved[9*i +: 9] = {parity[i], data[8*i +: 8]};
    endfunction

    // A port's value as a parameter has it (all parity bits above all data bits), in our order.
    function [71:0] value(input integer width, input [71:0] given);
        integer i;
        begin
            value = given;
            if (width >= 18)
                for (i = 0; i < width / 9; i = i + 1)
                    value[9*i +: 9] = {given[width / 9 * 8 + i], given[8*i +: 8]};
        end
    endfunction

    // Simple dual port: A reads, B writes, and at the full width each uses both ports' pins.
    localparam SDP = RAM_MODE == "SDP", WIDE_READ = SDP && READ_WIDTH_A == 36;
    localparam WIDE_WRITE = SDP && WRITE_WIDTH_B == 36;
    wire [17:0] pins_a, pins_b;
    wire [71:0] do_a, do_b;
    genvar i;
    generate
        for (i = 0; i < 2; i = i + 1) begin : pin
            assign pins_a[9*i +: 9] = {DIPADIP[i], DIADI[8*i +: 8]};
            assign pins_b[9*i +: 9] = {DIPBDIP[i], DIBDI[8*i +: 8]};
            assign {DOPADOP[i], DOADO[8*i +: 8]} = do_a[9*i +: 9];
            assign {DOPBDOP[i], DOBDO[8*i +: 8]} = WIDE_READ ? do_a[18 + 9*i +: 9] : do_b[9*i +: 9];
        end
    endgenerate

    sim_block_ram #(
        .BYTES(2048), .READ_A(READ_WIDTH_A), .WRITE_A(SDP ? 0 : WRITE_WIDTH_A),
        .READ_B(SDP ? 0 : READ_WIDTH_B), .WRITE_B(WRITE_WIDTH_B),
        .MODE_A(WRITE_MODE_A), .MODE_B(WRITE_MODE_B),
        .OLD_A(WRITE_MODE_A == "READ_FIRST"), .OLD_B(WRITE_MODE_B == "READ_FIRST"),
        .INIT(interleaved(CONTENT, PARITY)),
        .OUT_A(value(READ_WIDTH_A, INIT_A)), .OUT_B(value(READ_WIDTH_B, INIT_B)),
        .RESET_A(value(READ_WIDTH_A, SRVAL_A)), .RESET_B(value(READ_WIDTH_B, SRVAL_B))
    ) ram (
        .clk(CLKARDCLK), .en_a(ENARDEN), .en_b(ENBWREN),
        .reset_a(RSTRAMARSTRAM), .reset_b(RSTRAMB), .we_a({6'b0, WEA}),
        .we_b({4'b0, WEBWE}),
        .address_a({2'b0, ADDRARDADDR[13:0]}),
        .address_b({2'b0, ADDRBWRADDR[13:0]}),
        .di_a({54'b0, pins_a}),
        .di_b(WIDE_WRITE ? {36'b0, pins_b, pins_a} : {54'b0, pins_b}),
        .do_a(do_a), .do_b(do_b)
    );
endmodule

module RAMB36E1 (
    input CLKARDCLK, CLKBWRCLK, ENARDEN, ENBWREN, REGCEAREGCE, REGCEB,
    input RSTRAMARSTRAM, RSTRAMB, RSTREGARSTREG, RSTREGB,
    input [15:0] ADDRARDADDR, ADDRBWRADDR,
    input [31:0] DIADI, DIBDI,
    input [3:0] DIPADIP, DIPBDIP,
    input [3:0] WEA,
    input [7:0] WEBWE,
    input CASCADEINA, CASCADEINB, INJECTDBITERR, INJECTSBITERR,
    output CASCADEOUTA, CASCADEOUTB, SBITERR, DBITERR,
    output [7:0] ECCPARITY,
    output [8:0] RDADDRECC,
    output [31:0] DOADO, DOBDO,
    output [3:0] DOPADOP, DOPBDOP
);
    parameter integer DOA_REG = 0, DOB_REG = 0;
    parameter integer READ_WIDTH_A = 0, READ_WIDTH_B = 0, WRITE_WIDTH_A = 0, WRITE_WIDTH_B = 0;
    parameter RAM_MODE = "TDP", WRITE_MODE_A = "WRITE_FIRST", WRITE_MODE_B = "WRITE_FIRST";
    parameter RDADDR_COLLISION_HWCONFIG = "DELAYED_WRITE";
    parameter RAM_EXTENSION_A = "NONE", RAM_EXTENSION_B = "NONE";
    parameter EN_ECC_READ = "FALSE", EN_ECC_WRITE = "FALSE";
    parameter [71:0] INIT_A = 0, INIT_B = 0, SRVAL_A = 0, SRVAL_B = 0;
    parameter [0:0] IS_CLKARDCLK_INVERTED = 0, IS_CLKBWRCLK_INVERTED = 0;
    parameter [0:0] IS_ENARDEN_INVERTED = 0, IS_ENBWREN_INVERTED = 0;
    parameter [0:0] IS_RSTRAMARSTRAM_INVERTED = 0, IS_RSTRAMB_INVERTED = 0;
    parameter [0:0] IS_RSTREGARSTREG_INVERTED = 0, IS_RSTREGB_INVERTED = 0;
    parameter [255:0]
        INIT_00 = 0, INIT_01 = 0, INIT_02 = 0, INIT_03 = 0, INIT_04 = 0, INIT_05 = 0,
        INIT_06 = 0, INIT_07 = 0, INIT_08 = 0, INIT_09 = 0, INIT_0A = 0, INIT_0B = 0,
        INIT_0C = 0, INIT_0D = 0, INIT_0E = 0, INIT_0F = 0, INIT_10 = 0, INIT_11 = 0,
        INIT_12 = 0, INIT_13 = 0, INIT_14 = 0, INIT_15 = 0, INIT_16 = 0, INIT_17 = 0,
        INIT_18 = 0, INIT_19 = 0, INIT_1A = 0, INIT_1B = 0, INIT_1C = 0, INIT_1D = 0,
        INIT_1E = 0, INIT_1F = 0, INIT_20 = 0, INIT_21 = 0, INIT_22 = 0, INIT_23 = 0,
        INIT_24 = 0, INIT_25 = 0, INIT_26 = 0, INIT_27 = 0, INIT_28 = 0, INIT_29 = 0,
        INIT_2A = 0, INIT_2B = 0, INIT_2C = 0, INIT_2D = 0, INIT_2E = 0, INIT_2F = 0,
        INIT_30 = 0, INIT_31 = 0, INIT_32 = 0, INIT_33 = 0, INIT_34 = 0, INIT_35 = 0,
        INIT_36 = 0, INIT_37 = 0, INIT_38 = 0, INIT_39 = 0, INIT_3A = 0, INIT_3B = 0,
        INIT_3C = 0, INIT_3D = 0, INIT_3E = 0, INIT_3F = 0, INIT_40 = 0, INIT_41 = 0,
        INIT_42 = 0, INIT_43 = 0, INIT_44 = 0, INIT_45 = 0, INIT_46 = 0, INIT_47 = 0,
        INIT_48 = 0, INIT_49 = 0, INIT_4A = 0, INIT_4B = 0, INIT_4C = 0, INIT_4D = 0,
        INIT_4E = 0, INIT_4F = 0, INIT_50 = 0, INIT_51 = 0, INIT_52 = 0, INIT_53 = 0,
        INIT_54 = 0, INIT_55 = 0, INIT_56 = 0, INIT_57 = 0, INIT_58 = 0, INIT_59 = 0,
        INIT_5A = 0, INIT_5B = 0, INIT_5C = 0, INIT_5D = 0, INIT_5E = 0, INIT_5F = 0,
        INIT_60 = 0, INIT_61 = 0, INIT_62 = 0, INIT_63 = 0, INIT_64 = 0, INIT_65 = 0,
        INIT_66 = 0, INIT_67 = 0, INIT_68 = 0, INIT_69 = 0, INIT_6A = 0, INIT_6B = 0,
        INIT_6C = 0, INIT_6D = 0, INIT_6E = 0, INIT_6F = 0, INIT_70 = 0, INIT_71 = 0,
        INIT_72 = 0, INIT_73 = 0, INIT_74 = 0, INIT_75 = 0, INIT_76 = 0, INIT_77 = 0,
        INIT_78 = 0, INIT_79 = 0, INIT_7A = 0, INIT_7B = 0, INIT_7C = 0, INIT_7D = 0,
        INIT_7E = 0, INIT_7F = 0;
    parameter [255:0]
        INITP_00 = 0, INITP_01 = 0, INITP_02 = 0, INITP_03 = 0, INITP_04 = 0, INITP_05 = 0,
        INITP_06 = 0, INITP_07 = 0, INITP_08 = 0, INITP_09 = 0, INITP_0A = 0, INITP_0B = 0,
        INITP_0C = 0, INITP_0D = 0, INITP_0E = 0, INITP_0F = 0;

    // Elaboration fails on what is not modelled, naming it.
    generate
        if (DOA_REG != 0 || DOB_REG != 0) block_ram_output_register_is_not_modelled stop();
        if (IS_CLKARDCLK_INVERTED || IS_CLKBWRCLK_INVERTED || IS_ENARDEN_INVERTED
            || IS_ENBWREN_INVERTED || IS_RSTRAMARSTRAM_INVERTED || IS_RSTRAMB_INVERTED)
            block_ram_inverted_pin_is_not_modelled stop();
        if (RDADDR_COLLISION_HWCONFIG != "DELAYED_WRITE")
            block_ram_performance_mode_is_not_modelled stop();
        if (RAM_EXTENSION_A != "NONE" || RAM_EXTENSION_B != "NONE")
            block_ram_cascade_is_not_modelled stop();
        if (EN_ECC_READ != "FALSE" || EN_ECC_WRITE != "FALSE")
            block_ram_error_correction_is_not_modelled stop();
    endgenerate

    localparam [32767:0] CONTENT = {
        INIT_7F, INIT_7E, INIT_7D, INIT_7C, INIT_7B, INIT_7A, INIT_79, INIT_78,
        INIT_77, INIT_76, INIT_75, INIT_74, INIT_73, INIT_72, INIT_71, INIT_70,
        INIT_6F, INIT_6E, INIT_6D, INIT_6C, INIT_6B, INIT_6A, INIT_69, INIT_68,
        INIT_67, INIT_66, INIT_65, INIT_64, INIT_63, INIT_62, INIT_61, INIT_60,
        INIT_5F, INIT_5E, INIT_5D, INIT_5C, INIT_5B, INIT_5A, INIT_59, INIT_58,
        INIT_57, INIT_56, INIT_55, INIT_54, INIT_53, INIT_52, INIT_51, INIT_50,
        INIT_4F, INIT_4E, INIT_4D, INIT_4C, INIT_4B, INIT_4A, INIT_49, INIT_48,
        INIT_47, INIT_46, INIT_45, INIT_44, INIT_43, INIT_42, INIT_41, INIT_40,
        INIT_3F, INIT_3E, INIT_3D, INIT_3C, INIT_3B, INIT_3A, INIT_39, INIT_38,
        INIT_37, INIT_36, INIT_35, INIT_34, INIT_33, INIT_32, INIT_31, INIT_30,
        INIT_2F, INIT_2E, INIT_2D, INIT_2C, INIT_2B, INIT_2A, INIT_29, INIT_28,
        INIT_27, INIT_26, INIT_25, INIT_24, INIT_23, INIT_22, INIT_21, INIT_20,
        INIT_1F, INIT_1E, INIT_1D, INIT_1C, INIT_1B, INIT_1A, INIT_19, INIT_18,
        INIT_17, INIT_16, INIT_15, INIT_14, INIT_13, INIT_12, INIT_11, INIT_10,
        INIT_0F, INIT_0E, INIT_0D, INIT_0C, INIT_0B, INIT_0A, INIT_09, INIT_08,
        INIT_07, INIT_06, INIT_05, INIT_04, INIT_03, INIT_02, INIT_01, INIT_00};
    localparam [4095:0] PARITY = {
        INITP_0F, INITP_0E, INITP_0D, INITP_0C, INITP_0B, INITP_0A, INITP_09, INITP_08,
        INITP_07, INITP_06, INITP_05, INITP_04, INITP_03, INITP_02, INITP_01, INITP_00};

    function [36863:0] interleaved(input [32767:0] data, input [4095:0] parity);
        integer i;
        for (i = 0; i < 4096; i = i + 1) interleaved[9*i +: 9] = {parity[i], data[8*i +: 8]};
    endfunction

    // A port's value as a parameter has it (all parity bits above all data bits), in our order.
    function [71:0] value(input integer width, input [71:0] given);
        integer i;
        begin
            value = given;
            if (width >= 18)
                for (i = 0; i < width / 9; i = i + 1)
                    value[9*i +: 9] = {given[width / 9 * 8 + i], given[8*i +: 8]};
        end
    endfunction

    // Simple dual port: A reads, B writes, and at the full width each uses both ports' pins.
    localparam SDP = RAM_MODE == "SDP", WIDE_READ = SDP && READ_WIDTH_A == 72;
    localparam WIDE_WRITE = SDP && WRITE_WIDTH_B == 72;
    wire [35:0] pins_a, pins_b;
    wire [71:0] do_a, do_b;
    genvar i;
    generate
        for (i = 0; i < 4; i = i + 1) begin : pin
            assign pins_a[9*i +: 9] = {DIPADIP[i], DIADI[8*i +: 8]};
            assign pins_b[9*i +: 9] = {DIPBDIP[i], DIBDI[8*i +: 8]};
            assign {DOPADOP[i], DOADO[8*i +: 8]} = do_a[9*i +: 9];
            assign {DOPBDOP[i], DOBDO[8*i +: 8]} = WIDE_READ ? do_a[36 + 9*i +: 9] : do_b[9*i +: 9];
        end
    endgenerate

    sim_block_ram #(
        .BYTES(4096), .READ_A(READ_WIDTH_A), .WRITE_A(SDP ? 0 : WRITE_WIDTH_A),
        .READ_B(SDP ? 0 : READ_WIDTH_B), .WRITE_B(WRITE_WIDTH_B),
        .MODE_A(WRITE_MODE_A), .MODE_B(WRITE_MODE_B),
        .OLD_A(WRITE_MODE_A == "READ_FIRST"), .OLD_B(WRITE_MODE_B == "READ_FIRST"),
        .INIT(interleaved(CONTENT, PARITY)),
        .OUT_A(value(READ_WIDTH_A, INIT_A)), .OUT_B(value(READ_WIDTH_B, INIT_B)),
        .RESET_A(value(READ_WIDTH_A, SRVAL_A)), .RESET_B(value(READ_WIDTH_B, SRVAL_B))
    ) ram (
        .clk(CLKARDCLK), .en_a(ENARDEN), .en_b(ENBWREN),
        .reset_a(RSTRAMARSTRAM), .reset_b(RSTRAMB), .we_a({4'b0, WEA}),
        .we_b(WEBWE),
        .address_a({1'b0, ADDRARDADDR[14:0]}),
        .address_b({1'b0, ADDRBWRADDR[14:0]}),
        .di_a({36'b0, pins_a}),
        .di_b(WIDE_WRITE ? {pins_b, pins_a} : {36'b0, pins_b}),
        .do_a(do_a), .do_b(do_b)
    );
endmodule
