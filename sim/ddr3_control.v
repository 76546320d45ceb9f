// The registers of LiteDRAM's controller with its PHY for Artix-7, and a DDR3 chip behind them as
// far as the host sees it: what has to be done before the first READ, and in which settings of the
// delays what a READ gives is right. A step of a delay is 1/16 of a bit, a bit slip a whole bit.
//
// windows: of each of two lanes of eight data lines, 13 bits: the slip at which the data are right,
// with delays from a first on (5 bits), for so many steps (5 bits); 0 steps: never. A slip further
// the same eye is 16 steps earlier.
module ddr3_control #(
    parameter RESET = 20000, parameter WAKE = 50000, parameter SETTLE = 128
) (
    input clk, input cyc, input we, input [10:0] adr, input [31:0] dat_w,
    output reg [31:0] dat_r = 0, output reg ack = 0,
    output reg init_done = 0, input [25:0] windows, output reg [7:0] violation = 0
);
    reg init_error = 0, rst = 0, open = 0;
    reg [1:0] sel = 0, rdphase = 2, wrphase = 3;
    reg [4:0] delay [0:1];
    reg [2:0] slip [0:1];
    reg written_slip = 0;
    reg [3:0] control = 1;
    reg [7:0] command [0:3];
    reg [15:0] address [0:3];
    reg [2:0] bank [0:3];
    reg [31:0] wrdata [0:3], rddata [0:3];
    reg [127:0] stored = 0, read;
    reg [31:0] held = 0, awake = 0, settled = 0;    // cycles: in reset, out of it, since the last mode
    reg [2:0] modes = 0;                            // that were set, and 5 when calibrated
    reg was_reset = 0;

    wire [8:0] place = adr[8:0];
    wire [1:0] page = adr[10:9];
    wire [8:0] of_phases = place - 1;
    wire [1:0] phase = of_phases / 6;
    wire [2:0] which = of_phases % 6;
    wire begins = cyc & ~ack;
    wire [7:0] now = command[phase];
    integer lane, beat;
    reg [2:0] bank_of_mode [0:3];

    initial begin
        delay[0] = 0; delay[1] = 0; slip[0] = 0; slip[1] = 0;
        bank_of_mode[0] = 2; bank_of_mode[1] = 3; bank_of_mode[2] = 1; bank_of_mode[3] = 0;
    end

    // Whether a lane reads right at a delay and slip.
    function right_at(input [12:0] window, input signed [7:0] at, input [2:0] slipped);
        integer late;
        reg signed [7:0] eye;
        begin
            right_at = 0;
            for (late = -1; late < 2; late = late + 1) begin
                eye = at + 16 * late - $signed({3'b0, window[7:3]});
                if (slipped == ((window[2:0] + late) & 7) & eye >= 0 & eye < $signed({3'b0, window[12:8]})
                    & at >= 0 & at < 32) right_at = 1;
            end
        end
    endfunction

    task fails(input [7:0] rule);
        if (violation == 0) violation <= rule;
    endtask

    always @(posedge clk) begin
        ack <= begins;
        held <= control[0] | control[3] ? 0 : held + 1;
        awake <= control[3] & ~control[1] ? awake + 1 : control[3] ? awake : 0;
        settled <= settled + 1;
        dat_r <= 0;
        if (~control[0] & ~control[3]) begin
            modes <= 0;
            open <= 0;
            if (held + 1 >= RESET) was_reset <= 1;
        end
        if (rst) for (lane = 0; lane < 2; lane = lane + 1) begin
            delay[lane] <= 0;
            slip[lane] <= 0;
        end
        if (begins & ~we) case (page)
            0: dat_r <= place == 0 ? init_done : init_error;
            1: dat_r <= place == 1 ? sel : place == 11 ? rdphase : place == 12 ? wrphase : 0;
            2: dat_r <= place == 0 ? control : which == 0 ? command[phase] : which == 2 ? address[phase] :
                        which == 3 ? bank[phase] : which == 4 ? wrdata[phase] : which == 5 ? rddata[phase] : 0;
        endcase
        if (begins & we & page == 0) begin
            if (place == 0) begin
                init_done <= dat_w[0];
                if (dat_w[0] & (modes != 5 | ~control[0])) fails(7);
                for (lane = 0; lane < 2; lane = lane + 1) for (beat = -1; beat < 2; beat = beat + 1)
                    if (dat_w[0] & ~right_at(windows[13 * lane +: 13], {3'b0, delay[lane]} + beat, slip[lane])) fails(8);
            end
            if (place == 1) init_error <= dat_w[0];
        end
        if (begins & we & page == 1) begin
            if (place == 0) rst <= dat_w[0];
            if (place == 1) sel <= dat_w[1:0];
            if (place == 9 | place == 10) written_slip <= place == 10;
            if (place == 11) rdphase <= dat_w[1:0];
            if (place == 12) wrphase <= dat_w[1:0];
            for (lane = 0; lane < 2; lane = lane + 1) if (sel[lane]) begin
                if (place == 5) delay[lane] <= 0;
                if (place == 6) delay[lane] <= delay[lane] + 1;
                if (place == 7) slip[lane] <= 0;
                if (place == 8) slip[lane] <= slip[lane] + 1;
            end
        end
        if (begins & we & page == 2 & place == 0) begin
            control <= dat_w[3:0];
            if (~dat_w[0] & dat_w[3] & ~was_reset) fails(1);
            if (~dat_w[0] & dat_w[1] & ~control[1] & awake < WAKE) fails(2);
        end
        if (begins & we & page == 2 & place != 0) case (which)
            0: command[phase] <= dat_w[7:0];
            2: address[phase] <= dat_w[15:0];
            3: bank[phase] <= dat_w[2:0];
            4: wrdata[phase] <= dat_w;
        endcase
        // A command of the host's: {.., read, write, ras, cas, we, cs}.
        if (begins & we & page == 2 & place != 0 & which == 1 & ~control[0] & now[0]) begin
            if (~control[1]) fails(2);
            case (now[3:1])
                3'b111: begin
                    if (modes > 3 | bank[phase] != bank_of_mode[modes[1:0]]) fails(3);
                    if (bank[phase] == 0 & (address[phase][1:0] != 0 | address[phase][6:4] != 3 | ~address[phase][8])) fails(4);
                    if (bank[phase] == 2 & address[phase][5:3] != 0) fails(4);
                    modes <= modes + 1;
                    settled <= 0;
                end
                3'b001: begin
                    if (modes != 4 | ~address[phase][10]) fails(3);
                    modes <= 5;
                    settled <= 0;
                end
                3'b100: begin
                    if (modes != 5 | settled < SETTLE) fails(5);
                    if (open) fails(6);
                    open <= 1;
                end
                3'b101: open <= 0;
                3'b011: begin
                    if (~open) fails(6);
                    if (now[4] & phase == 3 & wrphase == 3 & ~written_slip)
                        stored <= {wrdata[3], wrdata[2], wrdata[1], wrdata[0]};
                end
                3'b010: begin
                    if (~open) fails(6);
                    read = stored;
                    for (lane = 0; lane < 2; lane = lane + 1) begin
                        if (~right_at(windows[13 * lane +: 13], {3'b0, delay[lane]}, slip[lane])
                            | ~now[5] | phase != 2 | rdphase != 2)
                            read[16 * delay[lane][2:0] + 8 * lane +: 8] = ~read[16 * delay[lane][2:0] + 8 * lane +: 8];
                    end
                    for (beat = 0; beat < 4; beat = beat + 1) rddata[beat] <= read[32 * beat +: 32];
                end
                default: fails(6);
            endcase
        end
    end
endmodule
