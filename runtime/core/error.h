#pragma once
/* Errors: an int code from errcode.def plus a fixed-size object whose message is built outward-in
 * ("commit gold.sales: put 0007.json: no space left"). Functions return 0 or a code; `err` may be
 * NULL everywhere. A message names the thing, the place and the way out. */
#include <stdarg.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_MUST_CHECK __attribute__((warn_unused_result))
#define WEIR_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum weir_class {
    WEIR_CLASS_NONE,
    WEIR_CLASS_RETRY,
    WEIR_CLASS_DATA,
    WEIR_CLASS_CONFIG,
    WEIR_CLASS_STATE,
    WEIR_CLASS_FATAL,
};

enum weir_errcode {
    WEIR_OK = 0,
    WEIR_E_FIRST_ = 1000,
#define X(name, class_, text) name,
#include "core/errcode.def"
#undef X
};

#define WEIR_ERROR_MESSAGE_BYTES 1024

struct weir_error {
    int code;
    int system_errno; /* errno where a system call failed, else 0 */
    char message[WEIR_ERROR_MESSAGE_BYTES];
};

/* Sets code and message; returns `code` so that callers write `return weir_error_set(...)`. */
int weir_error_set(struct weir_error *err, int code, const char *format, ...) WEIR_PRINTF(3, 4);
/* As above, appending ": <strerror>" and remembering errno_value. */
int weir_error_system(struct weir_error *err, int code, int errno_value, const char *format, ...)
    WEIR_PRINTF(4, 5);
/* Prefixes the message with "<context>: "; returns err->code (WEIR_E_BUG when err is NULL). */
int weir_error_wrap(struct weir_error *err, const char *format, ...) WEIR_PRINTF(2, 3);
void weir_error_clear(struct weir_error *err);

enum weir_class weir_error_class(int code);
const char *weir_error_name(int code); /* "WEIR_E_IO" */
const char *weir_error_text(int code); /* "input/output error" */

#ifdef __cplusplus
}
#endif
