/* Version checksums: `<version>.crc` beside a commit says what the table holds at that version, for
 * readers that check their state against it or start from it. Nothing depends on one: it is written
 * after the commit, without waiting for the disk, and a reader that finds none, or a torn one, goes
 * without. */
#include <inttypes.h>
#include <stdlib.h>

#include "lake/delta/table_state.h"

#define TEXT_BYTES_MAX (128u << 20)

/* The object inside {"name":…}. */
static int put_inner(struct weir_buffer *out, const char *key, const struct weir_buffer *action) {
    const char *text = (const char *)action->data;
    const char *colon = memchr(text, ':', action->size);
    int rc = weir_buffer_printf(out, ",\"%s\":", key);
    return rc == WEIR_OK
               ? weir_buffer_append(out, colon + 1, (size_t)(text + action->size - 1 - colon - 1))
               : rc;
}

static int format(const struct weir_delta_snapshot *snapshot, struct weir_buffer *out) {
    struct weir_buffer action;
    const char *in_commit =
        weir_delta_metadata_property(&snapshot->metadata, "delta.enableInCommitTimestamps");
    weir_buffer_init(&action, TEXT_BYTES_MAX);
    int rc = weir_buffer_printf(out,
                                "{\"tableSizeBytes\":%" PRId64 ",\"numFiles\":%" PRId64
                                ",\"numMetadata\":1,\"numProtocol\":1",
                                weir_delta_snapshot_file_bytes(snapshot),
                                weir_delta_snapshot_file_count(snapshot));
    if (rc == WEIR_OK && in_commit != NULL && strcmp(in_commit, "true") == 0) {
        rc = weir_buffer_printf(out, ",\"inCommitTimestampOpt\":%" PRId64, snapshot->timestamp_ms);
    }
    rc = rc == WEIR_OK ? weir_delta_metadata_format(&snapshot->metadata, &action) : rc;
    rc = rc == WEIR_OK ? put_inner(out, "metadata", &action) : rc;
    weir_buffer_clear(&action);
    rc = rc == WEIR_OK ? weir_delta_protocol_format(&snapshot->protocol, &action) : rc;
    rc = rc == WEIR_OK ? put_inner(out, "protocol", &action) : rc;
    weir_buffer_fini(&action);
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
}

int weir_delta_checksum(struct weir_delta_table *table, struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = table->snapshot;
    struct weir_store_file *file = NULL;
    struct weir_store_info info;
    struct weir_buffer text;
    if (snapshot->checksum_version == snapshot->version) {
        return WEIR_OK;
    }
    weir_buffer_init(&text, TEXT_BYTES_MAX);
    char *path = delta_log_path(table->dir, "%020" PRId64 ".crc", snapshot->version);
    int rc = path != NULL ? format(snapshot, &text) : WEIR_E_NOMEM;
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "%s", weir_error_text(rc));
        goto out;
    }
    rc = weir_store_stat(table->store, path, &info, err);
    if (rc == WEIR_E_NOTFOUND) { /* never overwritten */
        rc = weir_store_open(table->store, path, WEIR_STORE_ATOMIC, &file, err);
        if (rc == WEIR_OK) {
            rc = weir_store_file_write(file, text.data, text.size, err);
            int closed = weir_store_file_close(file, rc == WEIR_OK, err);
            rc = rc == WEIR_OK ? closed : rc;
        }
    }
    if (rc == WEIR_OK) {
        snapshot->checksum_version = snapshot->version;
    } else {
        weir_error_wrap(err, "checksum of table %s at version %" PRId64, table->dir,
                        snapshot->version);
    }
out:
    weir_buffer_fini(&text);
    free(path);
    return rc;
}
