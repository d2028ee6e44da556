#pragma once
/* Logs to stderr: "<level> <room> message key=value …". None per row. */
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_log_level { WEIR_LOG_ERROR, WEIR_LOG_WARN, WEIR_LOG_INFO, WEIR_LOG_DEBUG };

void weir_log_set_level(enum weir_log_level level);
void weir_log_set_json(bool json);
void weir_log(enum weir_log_level level, const char *room, const char *format, ...)
    WEIR_PRINTF(3, 4);

#define weir_log_error(room, ...) weir_log(WEIR_LOG_ERROR, room, __VA_ARGS__)
#define weir_log_warn(room, ...) weir_log(WEIR_LOG_WARN, room, __VA_ARGS__)
#define weir_log_info(room, ...) weir_log(WEIR_LOG_INFO, room, __VA_ARGS__)
#define weir_log_debug(room, ...) weir_log(WEIR_LOG_DEBUG, room, __VA_ARGS__)

#ifdef __cplusplus
}
#endif
