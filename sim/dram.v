// The memory behind a core's DRAM port (hw/stream.py) in simulation: a word a cycle, LATENCY cycles
// from the command to the word, and a refresh of PAUSE cycles after every INTERVAL cycles of work, in
// which it takes no command. Idle for REST cycles it refreshes unseen, and the interval begins anew
// with the next command, so that a run's cycles do not depend on when it begins.
module simulated_dram #(
    parameter WORDS = 4096, parameter LATENCY = 20, parameter INTERVAL = 780,
    parameter PAUSE = 30, parameter REST = 32
) (
    input clk,
    input cmd_valid, output cmd_ready, input cmd_we, input [23:0] cmd_addr,
    input wdata_valid, output wdata_ready, input [31:0] wdata_data, input [3:0] wdata_we,
    output rdata_valid, input rdata_ready, output [31:0] rdata_data
);
    reg [31:0] words [0:WORDS - 1];
    reg [31:0] data [0:LATENCY - 1];
    reg [LATENCY - 1:0] valid = 0;
    reg [15:0] busy = 0, pause = 0, rest = 0;
    reg [23:0] place = 0;
    reg writing = 0;        // a command to write waits for its word
    integer i;

    wire taken = cmd_valid & cmd_ready;
    wire idle = ~cmd_valid & rest == REST;
    assign cmd_ready = pause == 0 & ~writing;
    assign wdata_ready = writing;
    assign rdata_valid = valid[LATENCY - 1];
    assign rdata_data = data[LATENCY - 1];

    always @(posedge clk) begin
        rest <= cmd_valid ? 0 : rest == REST ? rest : rest + 1;
        busy <= idle | busy == INTERVAL - 1 ? 0 : busy + 1;
        pause <= ~idle & busy == INTERVAL - 1 ? PAUSE : pause == 0 ? 0 : pause - 1;
        valid <= {valid, taken & ~cmd_we};
        data[0] <= words[cmd_addr % WORDS];
        for (i = 1; i < LATENCY; i = i + 1) data[i] <= data[i - 1];
        if (taken & cmd_we) begin
            writing <= 1;
            place <= cmd_addr % WORDS;
        end
        if (writing & wdata_valid) begin
            for (i = 0; i < 4; i = i + 1) if (wdata_we[i]) words[place][8 * i +: 8] <= wdata_data[8 * i +: 8];
            writing <= 0;
        end
    end
endmodule
