/* The framing of chunked bodies (RFC 9112 §7.1), which libwebsockets leaves to its user. */
#include "serve/http/request.h"

static int hex_of(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool request_chunk_byte(struct request *r, uint8_t byte) {
    switch (r->chunk) {
    case CHUNK_SIZE:
        if (hex_of(byte) >= 0) {
            r->chunk_left = r->chunk_left * 16 + (uint64_t)hex_of(byte);
            return ++r->chunk_digits <= 15;
        }
        if (r->chunk_digits == 0) {
            return false;
        }
        r->chunk = CHUNK_EXTENSION;
        return request_chunk_byte(r, byte);
    case CHUNK_EXTENSION:
        if (byte == '\n') {
            r->chunk = r->chunk_left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
            r->line_empty = true;
            r->chunk_digits = 0;
        }
        return true;
    case CHUNK_END:
        if (byte == '\n') {
            r->chunk = CHUNK_SIZE;
        }
        return byte == '\r' || byte == '\n';
    case CHUNK_TRAILER:
        if (byte == '\n') {
            r->chunk = r->line_empty ? CHUNK_DONE : CHUNK_TRAILER;
            r->line_empty = true;
        } else if (byte != '\r') {
            r->line_empty = false;
        }
        return true;
    default:
        return false;
    }
}
