// An SDR SDRAM chip of 4 banks x ROWS rows x 512 columns x 16 bits, at its pins, with the rules of its
// data sheet: the first one that is broken stays in `violation` (0: none; sim/sdram.py names them), and
// from then on every word that is read is inverted. Times are in ps, counted by the chip's own clock.
//
// Bursts of two at CAS latency 2. Data comes half a period behind the clock's edge, which stands for
// access time and pads. While cke is 0 it is as before it was initialised. stuck_low, stuck_high: data lines that always read as 0, as 1.
module sdram_chip #(
    parameter ROWS = 8192, PERIOD = 12500, INIT = 200000000, REFRESHES = 8, MRD = 2,
    parameter RCD = 20000, RP = 20000, RAS = 45000, RC = 66000, RFC = 66000, WR = 15000,
    parameter RRD = 15000, REFRESH = 7812500, RAS_MOST = 100000000
) (
    input clk, input cke, ras_n, cas_n, we_n, input [1:0] ba, input [12:0] a, input [1:0] dqm,
    input [15:0] dq_in, dq_off, stuck_low, stuck_high,
    output [15:0] dq_out, output reg [7:0] violation
);
    localparam [2:0] NOP = 3'b111, ACTIVATE = 3'b011, READ = 3'b101, WRITE = 3'b100, PRECHARGE = 3'b010,
                     REF = 3'b001, MODE = 3'b000;
    localparam [7:0] EARLY = 1, ORDER = 2, T_RCD = 3, T_RP = 4, T_RAS = 5, T_RC = 6, T_RFC = 7, T_WR = 8,
                     T_MRD = 9, T_REFRESH = 10, CLOSED = 11, OPEN = 12, BUS = 13, UNKNOWN = 14, T_RRD = 15,
                     ROW = 16;
    localparam LONG = 100000;           // periods: further back than any rule looks

    reg [15:0] cells [0:4 * ROWS * 512 - 1];
    reg [3:0] opened = 0;
    reg [12:0] row [0:3];
    // Periods since each bank's ACTIVATE, PRECHARGE and last word written; any ACTIVATE, REFRESH, MODE.
    integer active [0:3];
    integer closed [0:3];
    integer written [0:3];
    integer any_active = LONG, refreshed = LONG, mode = LONG, powered = 0, refreshes = 0;
    reg precharged = 0, ready = 0;

    // The burst under way, and words on their way out.
    reg burst = 0, burst_writes = 0;
    reg [8:0] column = 0;
    reg [1:0] bank = 0;
    reg next_valid = 0, valid = 0, late_valid = 0;
    reg [15:0] next_word = 0, word = 0, late_word = 0;
    integer i;
    reg [2:0] command;
    reg [8:0] at;
    reg reading;

    initial begin
        violation = 0;
        for (i = 0; i < 4; i = i + 1) begin
            active[i] = LONG;
            closed[i] = LONG;
            written[i] = LONG;
            row[i] = 0;
        end
    end

    task broken(input [7:0] rule);
        if (violation == 0) begin
            violation = rule;
            $display("sdram: rule %0d is broken", rule);
        end
    endtask

    // A rule's least time has not passed.
    task least(input integer periods, input integer time_ps, input [7:0] rule);
        if (periods < LONG && periods * PERIOD < time_ps) broken(rule);
    endtask

    task idle(input [1:0] b);       // before ACTIVATE, REFRESH and MODE: the bank is closed, long enough
        begin
            if (opened[b]) broken(OPEN);
            least(closed[b], RP, T_RP);
            least(refreshed, RFC, T_RFC);
            if (mode < MRD) broken(T_MRD);
        end
    endtask

    task close(input [1:0] b);
        begin
            if (opened[b]) begin
                least(active[b], RAS, T_RAS);
                least(written[b], WR, T_WR);
                closed[b] = 0;
            end
            opened[b] = 0;
        end
    endtask

    task column_command(input writes);
        begin
            if (!opened[ba]) broken(CLOSED);
            least(active[ba], RCD, T_RCD);
            if (a[10]) broken(UNKNOWN);
            burst = 1;
            burst_writes = writes;
            bank = ba;
            column = a[8:0];
        end
    endtask

    always @(posedge clk) begin
        for (i = 0; i < 4; i = i + 1) begin
            if (active[i] < LONG) active[i] = active[i] + 1;
            if (closed[i] < LONG) closed[i] = closed[i] + 1;
            if (written[i] < LONG) written[i] = written[i] + 1;
            if (opened[i] && active[i] * PERIOD > RAS_MOST) broken(T_RAS);
        end
        if (any_active < LONG) any_active = any_active + 1;
        if (refreshed < LONG) refreshed = refreshed + 1;
        if (mode < LONG) mode = mode + 1;
        powered = powered + (powered < LONG);
        if (!cke) begin
            powered = 0;
            refreshes = 0;
            opened = 0;
            ready = 0;
            precharged = 0;
            burst = 0;
            next_valid = 0;
            valid = 0;
        end
        if (ready && refreshed * PERIOD > REFRESH) broken(T_REFRESH);

        command = cke ? {ras_n, cas_n, we_n} : NOP;
        if (command != NOP && powered * PERIOD < INIT) broken(EARLY);
        case (command)
            NOP: ;
            PRECHARGE: begin
                if (refreshed * PERIOD < RFC) broken(T_RFC);
                for (i = 0; i < 4; i = i + 1) if (a[10] || ba == i) close(i[1:0]);
                if (a[10] && !precharged) for (i = 0; i < 4; i = i + 1) closed[i] = 0;
                if (a[10]) precharged = 1;
            end
            REF: begin
                for (i = 0; i < 4; i = i + 1) idle(i[1:0]);
                if (!precharged) broken(ORDER);
                refreshes = refreshes + (refreshes < REFRESHES);
                refreshed = 0;
            end
            MODE: begin
                for (i = 0; i < 4; i = i + 1) idle(i[1:0]);
                if (refreshes < REFRESHES) broken(ORDER);
                if (a != 13'h021 || ba != 0) broken(UNKNOWN);
                ready = 1;
                mode = 0;
            end
            ACTIVATE: begin
                idle(ba);
                least(active[ba], RC, T_RC);
                least(any_active, RRD, T_RRD);
                if (!ready) broken(ORDER);
                if (a >= ROWS) broken(ROW);
                opened[ba] = 1;
                row[ba] = a;
                active[ba] = 0;
                any_active = 0;
            end
            READ: column_command(0);
            WRITE: column_command(1);
            default: broken(UNKNOWN);      // BURST TERMINATE
        endcase

        // The burst's next half word: of a command of this edge, or of the edge before.
        late_valid = valid;
        late_word = word;
        valid = next_valid;
        word = next_word;
        next_valid = 0;
        if (burst) begin
            at = command == READ || command == WRITE ? column : {column[8:1], ~column[0]};
            if (burst_writes) begin
                if (dq_off != 0) broken(BUS);
                if (!dqm[0]) cells[(bank * ROWS + row[bank] % ROWS) * 512 + at][7:0] = dq_in[7:0];
                if (!dqm[1]) cells[(bank * ROWS + row[bank] % ROWS) * 512 + at][15:8] = dq_in[15:8];
                written[bank] = 0;
            end else begin
                next_valid = 1;
                next_word = cells[(bank * ROWS + row[bank] % ROWS) * 512 + at] ^ {16{violation != 0}};
                if (dqm != 0) broken(UNKNOWN);
            end
            if (!(command == READ || command == WRITE)) burst = 0;
        end
        // From the edge behind the command's on the chip may drive its lines.
        if ((valid || late_valid) && dq_off != 16'hffff) broken(BUS);
    end

    reg [15:0] out = 16'ha5a5;
    always @(negedge clk) out <= valid ? word : 16'ha5a5 ^ {out[14:0], out[15]};
    assign dq_out = out & ~stuck_low | stuck_high;
endmodule
