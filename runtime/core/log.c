#include "core/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static enum weir_log_level max_level = WEIR_LOG_INFO;
static bool as_json;

void weir_log_set_level(enum weir_log_level level) {
    max_level = level;
}

void weir_log_set_json(bool json) {
    as_json = json;
}

void weir_log(enum weir_log_level level, const char *room, const char *format, ...) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (level > max_level) {
        return;
    }
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (!as_json) {
        fprintf(stderr, "weir: %s: %s: %s\n", names[level], room, message);
        return;
    }
    char escaped[4096];
    size_t used = 0;
    for (const char *p = message; *p != '\0' && used + 8 < sizeof(escaped); p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            escaped[used++] = '\\';
            escaped[used++] = (char)c;
        } else if (c < 0x20) {
            used += (size_t)snprintf(escaped + used, 7, "\\u%04x", c);
        } else {
            escaped[used++] = (char)c;
        }
    }
    escaped[used] = '\0';
    fprintf(stderr, "{\"level\":\"%s\",\"room\":\"%s\",\"message\":\"%s\"}\n", names[level], room,
            escaped);
}
