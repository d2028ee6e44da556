/* One line a message, written whole, so that lines of several threads do not mix. JSON lines are
 * valid JSON whatever bytes a message carries: it may quote data from outside. */
#include "core/log.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    MESSAGE_BYTES = 2048,
    ESCAPED_MAX = 6,
    PIECE_BYTES = 2048 /* a pipe that is ready has room for PIPE_BUF bytes, 4096 (pipe(7)) */
};

static _Atomic int max_level = WEIR_LOG_INFO;
static _Atomic bool as_json;

void weir_log_set_level(enum weir_log_level level) {
    atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void weir_log_set_json(bool json) {
    atomic_store_explicit(&as_json, json, memory_order_relaxed);
}

/* Bytes of the UTF-8 sequence at p (RFC 3629, table of section 4), 0 when there is none. */
static int sequence_length(const unsigned char *p) {
    int length = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (length < 2) {
        return length;
    }
    bool bad = p[0] > 0xf4 || (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
               (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    for (int i = 1; !bad && i < length; i++) {
        bad = (p[i] & 0xc0) != 0x80; /* the NUL at the end is bad as well */
    }
    return bad ? 0 : length;
}

static void escape(const char *text, char *out) {
    const unsigned char *p = (const unsigned char *)text;
    while (*p != '\0') {
        int length = sequence_length(p);
        if (length == 0) {
            memcpy(out, "\\ufffd", ESCAPED_MAX);
            out += ESCAPED_MAX;
            length = 1;
        } else if (*p == '"' || *p == '\\') {
            *out++ = '\\';
            *out++ = (char)*p;
        } else if (*p < 0x20 || *p == 0x7f) {
            out += snprintf(out, ESCAPED_MAX + 1, "\\u%04x", *p);
        } else {
            memcpy(out, p, (size_t)length);
            out += length;
        }
        p += length;
    }
    *out = '\0';
}

void weir_log_text(const char *text) {
    size_t left = strlen(text);
    while (left > 0) {
        struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (poll(&out, 1, 0) == 0) {
            return;
        }
        size_t piece = left < PIECE_BYTES ? left : PIECE_BYTES;
        if (write(STDERR_FILENO, text, piece) < 0) {
            return;
        }
        text += piece;
        left -= piece;
    }
}

void weir_log(enum weir_log_level level, const char *room, const char *format, ...) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed)) {
        return;
    }
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (!atomic_load_explicit(&as_json, memory_order_relaxed)) {
        char line[MESSAGE_BYTES + 64];
        snprintf(line, sizeof(line), "weir: %s: %s: %s\n", names[level], room, message);
        weir_log_text(line);
        return;
    }
    char escaped[MESSAGE_BYTES * ESCAPED_MAX];
    char line[sizeof(escaped) + 128];
    escape(message, escaped);
    snprintf(line, sizeof(line), "{\"level\":\"%s\",\"room\":\"%s\",\"message\":\"%s\"}\n",
             names[level], room, escaped);
    weir_log_text(line);
}
