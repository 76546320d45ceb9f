// A stand-in for LiteDRAM's controller and its DDR3 at a native user port: lines of four words, in
// order, 11 cycles or more from the command to the line; some cycles at random take no command or
// give no line, and a refresh of PAUSE cycles comes every INTERVAL cycles by a timer of its own. A
// word to write is taken when the memory likes, whether it is there or not, as LiteDRAM does.
module ddr3_lines #(
    parameter LINES = 1024, parameter INTERVAL = 781, parameter PAUSE = 50, parameter LATENCY = 11
) (
    input clk,
    input cmd_valid, output cmd_ready, input cmd_we, input [23:0] cmd_addr,
    input wdata_valid, output wdata_ready, input [127:0] wdata_data, input [15:0] wdata_we,
    output reg rdata_valid = 0, input rdata_ready, output [127:0] rdata_data,
    input [15:0] stuck_low, input [15:0] stuck_high
);
    reg [127:0] lines [0:LINES - 1];
    reg [24:0] waiting [0:7];
    reg [15:0] since [0:7];
    reg [2:0] head = 0, tail = 0;
    reg [3:0] count = 0;
    reg [15:0] now = 0, timer = 0, pause = 0, dice = 16'hace1;
    reg [127:0] line = 0;
    integer i;

    wire [24:0] first = waiting[head];
    wire [23:0] place = first[23:0] % LINES;
    wire works = count != 0 & pause == 0 & now - since[head] >= LATENCY - 1 & dice[2:0] != 0;
    assign cmd_ready = ~count[3] & dice[6:4] != 0;
    assign wdata_ready = works & first[24];
    assign rdata_data = line & ~{8{stuck_low}} | {8{stuck_high}};
    wire taken = cmd_valid & cmd_ready;

    always @(posedge clk) begin
        now <= now + 1;
        dice <= {dice[14:0], dice[15] ^ dice[13] ^ dice[12] ^ dice[10]};
        timer <= timer == INTERVAL - 1 ? 0 : timer + 1;
        pause <= timer == INTERVAL - 1 ? PAUSE : pause == 0 ? 0 : pause - 1;
        count <= count + taken - works;
        if (taken) begin
            waiting[tail] <= {cmd_we, cmd_addr};
            since[tail] <= now;
            tail <= tail + 1;
        end
        if (works) head <= head + 1;
        rdata_valid <= works & ~first[24];
        if (works & ~first[24]) line <= lines[place];
        if (works & first[24])
            for (i = 0; i < 16; i = i + 1) if (wdata_we[i]) lines[place][8 * i +: 8] <= wdata_data[8 * i +: 8];
    end
endmodule
