#pragma once
/* Logs to stderr: "<level> <room> message key=value …". None per row. A reader that does not read
 * (a pipe that is full, a terminal that was stopped) holds nobody up: what it would wait for is
 * left out. */
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_log_level { WEIR_LOG_ERROR, WEIR_LOG_WARN, WEIR_LOG_INFO, WEIR_LOG_DEBUG };

void weir_log_set_level(enum weir_log_level level);
void weir_log_set_json(bool json);
void weir_log(enum weir_log_level level, const char *room, const char *format, ...)
    WEIR_PRINTF(3, 4);
/* Text as it is, likewise; the end of a long one is what may be left out. */
void weir_log_text(const char *text);

#define weir_log_error(room, ...) weir_log(WEIR_LOG_ERROR, room, __VA_ARGS__)
#define weir_log_warn(room, ...) weir_log(WEIR_LOG_WARN, room, __VA_ARGS__)
#define weir_log_info(room, ...) weir_log(WEIR_LOG_INFO, room, __VA_ARGS__)
#define weir_log_debug(room, ...) weir_log(WEIR_LOG_DEBUG, room, __VA_ARGS__)

#ifdef __cplusplus
}
#endif
