/* A host for SpikeTicket boards in C, written from docs/link.md alone; POSIX, no libraries.
 *
 *     gcc -O2 -o spiketicket spiketicket.c
 *     ./spiketicket /dev/ttyUSB1 scnn.txt scnn.txt.inputs       or udp://192.168.1.50
 *
 * Loads a network (the text of `python -m sw.flat_image`) and prints the logits of every input, a
 * line each. One request is unanswered at a time: what is not answered, or answered as damaged, is
 * sent again with its number, which the board never does twice. The port is locked, and every answer
 * must have the epoch that the requests of this program give. Exit code 1 for any failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { MAP = 0, REGISTER = 4 };                                        /* spaces named here */
enum { SYNC = 1 << 5, WRITE = 1 << 6, RUN = 1 << 7, READ = 1 << 8, DIGEST = 1 << 9 }; /* flags */
enum { OK, BAD_FRAME, OVERRUN, ORDER, VERSION };                     /* statuses, the first ones */
enum { STOPPED = 8 };                                                /* and the last */
enum { HEADER = 4 };                                                 /* words of a reply's header */
enum { PROTOCOL_VERSION = 3, BULK = 240, FRAME_WORDS = 512, MOST_READ = 1024, TRIES = 20 };

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *get(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("no memory for %zu x %zu bytes", count, size);
    return memory;
}

/* CRC-32 of IEEE 802.3, of bytes or of words (least significant byte first) */

static uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int i = 0; i < 8; i++)
        crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    return crc;
}

static uint32_t crc_words(const uint32_t *words, size_t count)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < 4 * count; i++)
        crc = crc_byte(crc, (uint8_t)(words[i / 4] >> 8 * (i % 4)));
    return ~crc;
}

/* Frames: words and their CRC, stuffed by COBS, ended by a zero */

static size_t encode(const uint32_t *words, size_t count, uint8_t *out)
{
    uint32_t crc = crc_words(words, count);
    size_t code = 0, at = 1; /* where the block's code byte goes, where the next byte goes */
    for (size_t i = 0; i < 4 * count + 4; i++) {
        uint32_t word = i / 4 < count ? words[i / 4] : crc;
        uint8_t byte = (uint8_t)(word >> 8 * (i % 4));
        if (byte)
            out[at++] = byte;
        if (!byte || at - code == 255) {
            out[code] = (uint8_t)(at - code);
            code = at++;
        }
    }
    out[code] = (uint8_t)(at - code);
    out[at++] = 0;
    return at;
}

/* Words of a received frame (without its zero), the CRC left out; -1 if it is damaged. */
static long decode(const uint8_t *in, size_t length, uint32_t *words, size_t room)
{
    size_t count = 0, place = 0;
    memset(words, 0, 4 * room);
    while (place < length) {
        size_t code = in[place];
        if (place + code > length)
            return -1;
        for (size_t i = 1; i <= code; i++) {
            int last = i == code; /* the zero behind the block */
            if (last && (code == 255 || place + code == length))
                break;
            if (count >= 4 * room)
                return -1;
            words[count / 4] |= (uint32_t)(last ? 0 : in[place + i]) << 8 * (count % 4);
            count++;
        }
        place += code;
    }
    if (count % 4 || count < 8 || crc_words(words, count / 4 - 1) != words[count / 4 - 1])
        return -1;
    return (long)(count / 4 - 1);
}

static int port = -1;
static int network; /* whether `port` is a socket: a datagram holds a frame, or a part of a reply */
static uint16_t sequence;
static uint32_t epoch; /* the board's, after the last request it did */
static uint32_t clock_hz = 100000000;
static double baud_rate = 3e6;
static uint8_t received[1 << 15];
static size_t held;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void open_port(const char *name)
{
    struct termios line;
    port = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (port < 0 || tcgetattr(port, &line))
        fail("%s: cannot be opened as a serial port (%s)", name, strerror(errno));
    if (flock(port, LOCK_EX | LOCK_NB)) /* until the program ends */
        fail("%s: another program uses it: close that first", name);
    line.c_iflag = line.c_oflag = line.c_lflag = 0; /* raw, 8 data bits, no parity, 1 stop bit */
    line.c_cflag = CS8 | CREAD | CLOCAL;
    line.c_cc[VMIN] = line.c_cc[VTIME] = 0;
    if (cfsetispeed(&line, B3000000) || cfsetospeed(&line, B3000000)
        || tcsetattr(port, TCSANOW, &line))
        fail("%s: does not take 3 Mbaud (%s)", name, strerror(errno));
    tcsendbreak(port, 0); /* brings the board's first rate back */
    tcflush(port, TCIFLUSH);
}

/* "udp://HOST" or "udp://HOST:PORT" */
static void open_network(const char *name)
{
    char host[256], *colon;
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM}, *found;
    snprintf(host, sizeof host, "%s", name + strlen("udp://"));
    if ((colon = strchr(host, ':')))
        *colon++ = 0;
    if (getaddrinfo(host, colon ? colon : "21328", &hints, &found))
        fail("%s: no IPv4 address of that name and port", name);
    port = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (port < 0 || connect(port, found->ai_addr, found->ai_addrlen))
        fail("%s: cannot be reached (%s); check cable and address", name, strerror(errno));
    freeaddrinfo(found);
    network = 1;
}

/* What the board tells a host that does not hold it; see docs/link.md, Transports */
static void check_announcement(const uint8_t *data, ssize_t length)
{
    if (network && length == 36 && !memcmp(data, "SPKT", 4))
        fail("another host holds the board: %d.%d.%d.%d; end it and start again", data[11],
             data[10], data[9], data[8]);
}

static void send_bytes(const uint8_t *data, size_t length)
{
    double end = now() + 10;
    while (length) {
        struct pollfd wait = {port, POLLOUT, 0};
        poll(&wait, 1, 100);
        ssize_t done = write(port, data, length);
        if ((done < 0 && errno != EAGAIN && errno != EINTR) || now() > end)
            fail("the board is gone (%s)", strerror(errno));
        data += done > 0 ? done : 0;
        length -= done > 0 ? (size_t)done : 0;
    }
}

/* The next good frame, its words (CRC left out) or -1 if none comes until `end`. */
static long receive(uint32_t *words, size_t room, double end)
{
    for (;;) {
        uint8_t *zero = memchr(received, 0, held);
        if (zero) {
            long count = decode(received, (size_t)(zero - received), words, room);
            held -= (size_t)(zero + 1 - received);
            memmove(received, zero + 1, held);
            if (count >= 0)
                return count;
            continue;
        }
        if (held == sizeof received)
            held = 0; /* noise: no frame is that long */
        double left = end - now();
        struct pollfd wait = {port, POLLIN, 0};
        if (left <= 0 || poll(&wait, 1, (int)(1000 * left) + 1) == 0)
            return -1;
        ssize_t got = read(port, received + held, sizeof received - held);
        if ((got == 0 && !network) || (got < 0 && errno != EAGAIN && errno != EINTR))
            fail("the board is gone (%s)", got ? strerror(errno) : "end of file");
        if (got > 0) {
            check_announcement(received + held, got);
            held += (size_t)got;
        }
    }
}

struct request {
    uint32_t flags, write_space, write_addr, expand, read_space, read_addr, read_count,
        read_stride, max_cycles;
    const uint32_t *words;
    size_t count; /* of words to write */
};

/* Does a request; `answer` takes the words read, all of them. Returns the cycles of the run. */
static uint32_t ask(const struct request *r, uint32_t *answer)
{
    uint32_t frame[FRAME_WORDS], reply[HEADER + MOST_READ + 1], after;
    uint8_t bytes[4 * FRAME_WORDS + 16];
    size_t expected = !(r->flags & READ) ? 0 : r->flags & DIGEST ? 1 : r->read_count;
    for (int attempt = 0; attempt < TRIES; attempt++) {
        if (r->flags & SYNC)
            sequence = (uint16_t)(now() * 1e6);
        frame[0] = PROTOCOL_VERSION | r->flags | (uint32_t)sequence << 16;
        frame[1] = r->write_addr | r->write_space << 24 | r->expand << 28;
        frame[2] = r->read_addr | r->read_space << 24;
        frame[3] = r->read_count | r->read_stride << 16;
        frame[4] = 0;
        frame[5] = r->max_cycles;
        if (r->count)
            memcpy(frame + 6, r->words, 4 * r->count);
        if (!network && (attempt || r->flags & SYNC))
            send_bytes((const uint8_t *)"", 1); /* ends whatever was on the line before */
        size_t length = encode(frame, 6 + r->count, bytes);
        after = epoch << 1 ^ (epoch >> 31 ? 0x04C11DB7u : 0) ^ crc_words(frame, 6 + r->count);
        send_bytes(bytes, length);
        double end = now() + 0.5 + (double)r->max_cycles / clock_hz
                   + 10.0 * (double)(length + 4 * expected + 32) / baud_rate;
        for (;;) {
            long count = receive(reply, sizeof reply / sizeof *reply, end);
            if (count < 0)
                break; /* no answer: again */
            unsigned status = reply[0] >> 8 & 255;
            if (count > 0 && reply[0] & 16 && (reply[0] & 15) != PROTOCOL_VERSION)
                fail("the board speaks protocol %u, this host %d", (unsigned)(reply[0] & 15),
                     PROTOCOL_VERSION);
            if (count < HEADER || !(reply[0] & 16) || (long)(reply[1] >> 16) != count - HEADER)
                continue;
            if (status == VERSION)
                fail("the board does not know this version of the protocol");
            if (status == BAD_FRAME || status == OVERRUN || (status == ORDER && r->flags & SYNC))
                break; /* of this request or of what was on the line before: again */
            if (reply[0] >> 16 != sequence)
                continue; /* an old answer */
            if (status == STOPPED)
                fail("another program started anew with the board; end it and start again");
            if (status == ORDER)
                fail("the board was reset; start again");
            if (!(r->flags & SYNC) && reply[3] != after)
                fail("another program has sent requests to the board; end it and start again");
            if (status != OK)
                fail("the board refuses a request (status %u)", status);
            if ((size_t)(count - HEADER) != expected)
                break;
            if (expected)
                memcpy(answer, reply + HEADER, 4 * expected);
            epoch = reply[3];
            sequence++;
            return reply[2];
        }
    }
    fail("no answer; check cable, port, rate and bitstream");
    return 0;
}

static void write_words(uint32_t space, uint32_t address, const uint32_t *words, size_t count)
{
    for (size_t done = 0; done < count; done += BULK) {
        struct request r = {.flags = WRITE, .write_space = space,
                            .write_addr = address + (uint32_t)done, .words = words + done,
                            .count = count - done < BULK ? count - done : BULK};
        ask(&r, NULL);
    }
}

/* The network's file: see sw/flat_image.py */
struct layout {
    uint32_t base, copies, planes, bits_a_mask, factor, channels, channel_words, pitch, window,
        height, width, copy[4];
};

struct network {
    char name[64];
    unsigned long long identity;
    uint32_t timesteps, is_static, channels, height, width, bits, lanes, results, classes,
        max_cycles, layouts, memories;
    struct layout layout[4];
    char *rest; /* the memories' text */
};

static uint32_t number(char **text, int base)
{
    char *end;
    unsigned long value = strtoul(*text, &end, base);
    if (end == *text || value > 0xFFFFFFFFul)
        fail("the network's file breaks off");
    *text = end;
    return (uint32_t)value;
}

static struct network read_network(const char *path)
{
    static char text[1 << 24];
    struct network n = {0};
    char *end = NULL;
    FILE *file = fopen(path, "rb");
    if (!file || fread(text, 1, sizeof text - 1, file) == 0)
        fail("%s: no network to be read (%s)", path, strerror(errno));
    fclose(file);
    for (char *found = text; (found = strstr(found, "\nend ")); found++)
        end = found + 1;
    uint32_t crc = 0xFFFFFFFFu;
    for (char *c = text; end && c < end; c++)
        crc = crc_byte(crc, (uint8_t)*c);
    if (!end || strtoul(end + 4, NULL, 16) != (uint32_t)~crc)
        fail("%s: not a network, or damaged", path);
    int used = 0;
    if (sscanf(text, "spiketicket-flat 2 identity %llx clock_hz %u name %63s timesteps %u static %u"
               " input %u %u %u bits %u lanes %u layouts %u%n", &n.identity, &clock_hz, n.name,
               &n.timesteps, &n.is_static, &n.channels, &n.height, &n.width, &n.bits, &n.lanes,
               &n.layouts, &used) != 11 || n.layouts > 4 || n.timesteps > 16 || !clock_hz)
        fail("%s: another version of the format", path);
    char *at = text + used;
    for (uint32_t i = 0; i < n.layouts; i++) {
        uint32_t *fields = (uint32_t *)&n.layout[i];
        for (uint32_t k = 0; k < 11 + (n.timesteps + 3) / 4; k++)
            fields[k] = number(&at, 10);
    }
    if (sscanf(at, " results %u classes %u max_cycles %u memories %u%n", &n.results, &n.classes,
               &n.max_cycles, &n.memories, &used) != 4 || n.classes > MOST_READ)
        fail("%s: another version of the format", path);
    n.rest = at + used;
    return n;
}

static void load(const struct network *n)
{
    char *at = n->rest;
    for (uint32_t i = 0; i < n->memories; i++) {
        uint32_t space = number(&at, 10), address = number(&at, 10), count = number(&at, 10), held;
        if (count > 0xFFFF)
            fail("a memory of %u words", count);
        uint32_t *words = get(count, 4);
        for (uint32_t k = 0; k < count; k++)
            words[k] = number(&at, 16);
        write_words(space, address, words, count);
        struct request check = {.flags = READ | DIGEST, .read_space = space, .read_addr = address,
                                .read_count = count, .read_stride = 1};
        ask(&check, &held);
        if (held != crc_words(words, count))
            fail("the board's memory does not hold what was sent");
        free(words);
    }
}

/* An input: bytes [C, H, W] if static, else [T, C, H, W] */
static void write_input(const struct network *n, const uint8_t *input)
{
    size_t step = (size_t)n->channels * n->height * n->width;
    for (uint32_t i = 0; i < n->layouts; i++) {
        const struct layout *l = &n->layout[i];
        size_t plane = (size_t)l->factor * l->factor * l->channels * l->channel_words;
        size_t count = l->copies * l->planes * plane * n->lanes;
        uint32_t *words = get(count, 4);
        for (uint32_t t = 0; t < n->timesteps; t++)
            for (uint32_t c = 0; c < l->channels; c++)
                for (uint32_t y = 0; y < l->height; y++)
                    for (uint32_t x = 0; x < l->width; x++) {
                        uint8_t value = input[(n->is_static ? 0 : t * step)
                                              + ((size_t)c * n->height + y) * n->width + x];
                        uint32_t phase = (y % l->factor) * l->factor + x % l->factor;
                        uint32_t flat = (y / l->factor) * l->pitch + x / l->factor;
                        size_t word = ((size_t)phase * l->channels + c) * l->channel_words
                                    + flat / l->window;
                        uint32_t mask = flat % l->window;
                        for (uint32_t b = 0; b < n->bits; b++)
                            if (value >> b & 1) {
                                uint32_t p = b / l->bits_a_mask;
                                uint32_t place = l->bits_a_mask > 1 ? b % 4 : t % 4;
                                size_t at = (l->copy[t / 4] * l->planes + p) * plane + word;
                                words[at * n->lanes + mask / 8] |= 1u << (4 * (mask % 8) + place);
                            }
                    }
        write_words(MAP, l->base * n->lanes, words, count);
        free(words);
    }
}

int main(int count, char **arguments)
{
    if (count != 4)
        fail("usage: %s PORT NETWORK INPUTS", arguments[0]);
    FILE *inputs = fopen(arguments[3], "rb");
    if (!inputs)
        fail("%s: %s", arguments[3], strerror(errno));
    struct network n = read_network(arguments[2]);
    if (strncmp(arguments[1], "udp://", 6))
        open_port(arguments[1]);
    else
        open_network(arguments[1]);
    uint32_t registers[4];
    struct request hello = {.flags = SYNC | READ, .read_space = REGISTER, .read_count = 4,
                            .read_stride = 1};
    ask(&hello, registers);
    if (registers[0] != 0x544B5053u)
        fail("not a SpikeTicket board (it says %08x)", registers[0]);
    if (((unsigned long long)registers[3] << 32 | registers[2]) != n.identity)
        fail("the board's identity is %08x%08x, the network is for %016llx", registers[3],
             registers[2], n.identity);
    load(&n);
    size_t size = (size_t)n.channels * n.height * n.width * (n.is_static ? 1 : n.timesteps);
    uint8_t *input = get(size, 1);
    uint32_t *logits = get(n.classes, 4);
    struct request run = {.flags = RUN | READ, .read_space = MAP, .read_addr = n.results * n.lanes,
                          .read_count = n.classes, .read_stride = n.lanes,
                          .max_cycles = n.max_cycles};
    for (size_t got; (got = fread(input, 1, size, inputs)) > 0;) {
        if (got != size)
            fail("%s: ends within an input of %zu bytes", arguments[3], size);
        write_input(&n, input);
        uint32_t cycles = ask(&run, logits);
        for (uint32_t k = 0; k < n.classes; k++)
            printf("%s%d", k ? " " : "", (int)(int32_t)logits[k]);
        putchar('\n');
        fprintf(stderr, "%s: %u cycles\n", n.name, cycles);
    }
    free(logits);
    free(input);
    fclose(inputs);
    return 0;
}
