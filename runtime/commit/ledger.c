/* What every ledger has in common: strict numbering, refusal after a failure. */
#include "commit/ledger.h"

int weir_ledger_append(struct weir_ledger *ledger, uint64_t number, int64_t time_us,
                       const struct iovec *parts, int count, struct weir_error *err) {
    if (ledger->failed) {
        return weir_error_set(
            err, ledger->failure.code,
            "record %llu refused after an earlier failure (%s): restart, recovery "
            "decides what is durable",
            (unsigned long long)number, ledger->failure.message);
    }
    if (number != ledger->last + 1) {
        return weir_error_set(err, WEIR_E_BUG, "record %llu appended after record %llu",
                              (unsigned long long)number, (unsigned long long)ledger->last);
    }
    return ledger->ops->append(ledger, number, time_us, parts, count, err);
}

int weir_ledger_prepare(struct weir_ledger *ledger, struct weir_error *err) {
    return ledger->failed ? WEIR_OK : ledger->ops->prepare(ledger, err);
}

int weir_ledger_trim(struct weir_ledger *ledger, uint64_t keep_from, int64_t keep_since_us,
                     struct weir_error *err) {
    return ledger->failed ? WEIR_OK : ledger->ops->trim(ledger, keep_from, keep_since_us, err);
}

int weir_ledger_cursor_open(struct weir_ledger *ledger, uint64_t from,
                            struct weir_ledger_cursor **out, struct weir_error *err) {
    *out = NULL;
    if (from < ledger->first || from > ledger->last + 1) {
        return weir_error_set(err, WEIR_E_NOTFOUND,
                              "record %llu is not in the ledger, which holds %llu to %llu",
                              (unsigned long long)from, (unsigned long long)ledger->first,
                              (unsigned long long)ledger->last);
    }
    return ledger->ops->cursor_open(ledger, from, out, err);
}

void weir_ledger_close(struct weir_ledger *ledger) {
    if (ledger != NULL) {
        ledger->ops->close(ledger);
    }
}

int weir_ledger_cursor_next(struct weir_ledger_cursor *cursor, struct weir_ledger_frame *out,
                            bool *end, struct weir_error *err) {
    return cursor->ops->cursor_next(cursor, out, end, err);
}

void weir_ledger_cursor_close(struct weir_ledger_cursor *cursor) {
    if (cursor != NULL) {
        cursor->ops->cursor_close(cursor);
    }
}
