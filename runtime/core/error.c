#include "core/error.h"

#include <stdio.h>
#include <string.h>

struct code_info {
    const char *name;
    enum weir_class class_;
    const char *text;
};

static const struct code_info code_table[] = {
#define X(name, class_, text) {#name, WEIR_CLASS_##class_, text},
#include "core/errcode.def"
#undef X
};

static const struct code_info *code_info(int code) {
    int index = code - WEIR_E_FIRST_ - 1;
    int count = (int)(sizeof(code_table) / sizeof(code_table[0]));
    return index >= 0 && index < count ? &code_table[index] : NULL;
}

/* A message that did not fit shows that it was cut, and not within a UTF-8 sequence. */
static void mark_cut(struct weir_error *err) {
    size_t end = sizeof(err->message) - 4;
    while (end > 0 && ((unsigned char)err->message[end] & 0xc0) == 0x80) {
        end--;
    }
    memcpy(err->message + end, "...", 4);
}

/* Puts "<prefix>" or "<prefix>: <rest>" into the message; `rest` may not be the message itself. */
static void put_message(struct weir_error *err, const char *format, va_list args,
                        const char *rest) {
    int used = vsnprintf(err->message, sizeof(err->message), format, args);
    if (used < 0) {
        err->message[0] = '\0';
        return;
    }
    size_t left = (size_t)used < sizeof(err->message) ? sizeof(err->message) - (size_t)used : 0;
    if (left > 0 && rest != NULL) {
        left = (size_t)snprintf(err->message + used, left, ": %s", rest) < left ? left : 0;
    }
    if (left == 0) {
        mark_cut(err);
    }
}

int weir_error_set(struct weir_error *err, int code, const char *format, ...) {
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        err->code = code;
        err->system_errno = 0;
        put_message(err, format, args, NULL);
        va_end(args);
    }
    return code;
}

int weir_error_system(struct weir_error *err, int code, int errno_value, const char *format, ...) {
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        put_message(err, format, args, strerror(errno_value));
        va_end(args);
        err->code = code;
        err->system_errno = errno_value;
    }
    return code;
}

int weir_error_wrap(struct weir_error *err, const char *format, ...) {
    if (err == NULL) {
        return WEIR_E_BUG;
    }
    char inner[WEIR_ERROR_MESSAGE_BYTES];
    memcpy(inner, err->message, sizeof(inner));
    va_list args;
    va_start(args, format);
    put_message(err, format, args, inner);
    va_end(args);
    return err->code;
}

void weir_error_clear(struct weir_error *err) {
    if (err != NULL) {
        err->code = WEIR_OK;
        err->system_errno = 0;
        err->message[0] = '\0';
    }
}

enum weir_class weir_error_class(int code) {
    const struct code_info *info = code_info(code);
    return info != NULL ? info->class_ : WEIR_CLASS_NONE;
}

const char *weir_error_name(int code) {
    const struct code_info *info = code_info(code);
    return info != NULL ? info->name : code == WEIR_OK ? "WEIR_OK" : "unknown";
}

const char *weir_error_text(int code) {
    const struct code_info *info = code_info(code);
    return info != NULL ? info->text : code == WEIR_OK ? "no error" : "unknown error code";
}
