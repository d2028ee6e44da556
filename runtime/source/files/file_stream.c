#include "source/files/file_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/clock.h"
#include "decode/avro/avro_container.h"

enum {
    OBJECT_BYTES = 4 << 20, /* of one request */
    RAW_BYTES = 256 * 1024,
    BLOCK_BYTES_MAX = 66 << 20,
    TEXT_BYTES_MAX = 256 << 20
};

enum kind { PLAIN, GZIP, ZSTD, CONTAINER };

struct file_stream {
    enum kind kind;
    int fd;
    struct file_place *place;    /* of an object; NULL of a file */
    struct weir_store_info info; /* of the object when it was opened */
    struct weir_buffer object;   /* bytes of it; object[object_at..) are not read */
    size_t object_at;
    char *path;
    uint64_t raw_offset; /* bytes read from the file */
    uint8_t *raw;        /* compressed bytes not yet used: raw[raw_at..raw_end) */
    size_t raw_at;
    size_t raw_end;
    z_stream gzip;
    bool has_gzip;
    bool inside;  /* of a member or frame */
    bool pending; /* the decompressor may hold output without more input */
    ZSTD_DStream *zstd;
    size_t raw_capacity; /* of `raw`: a container's grows to a block */
    struct avro_container *container;
    struct weir_buffer text; /* of a container's block: text[text_at..) is not read */
    size_t text_at;
};

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text);
    size_t end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

void file_stream_close(struct file_stream *stream) {
    if (stream != NULL) {
        if (stream->fd >= 0) {
            close(stream->fd);
        }
        if (stream->has_gzip) {
            inflateEnd(&stream->gzip);
        }
        ZSTD_freeDStream(stream->zstd);
        avro_container_destroy(stream->container);
        weir_buffer_fini(&stream->text);
        weir_buffer_fini(&stream->object);
        free(stream->raw);
        free(stream->path);
        free(stream);
    }
}

/* Where its bytes come from. */
static int open_bytes(struct file_stream *stream, struct weir_error *err) {
    if (stream->place != NULL) {
        const char *name = file_place_name(stream->place, stream->path);
        int rc = name != NULL
                     ? weir_store_stat(file_place_store(stream->place), name, &stream->info, err)
                     : weir_error_set(err, WEIR_E_STATE, "it is of another place");
        return rc == WEIR_OK ? rc : weir_error_wrap(err, "cannot read %s", stream->path);
    }
    stream->fd = open(stream->path, O_RDONLY | O_CLOEXEC);
    if (stream->fd < 0) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno,
                                 "cannot read %s (check its permissions, or take it out of the "
                                 "folder)",
                                 stream->path);
    }
    (void)posix_fadvise(stream->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return WEIR_OK;
}

int file_stream_open(struct file_stream **out, const char *path, struct file_place *place,
                     bool is_container, struct weir_error *err) {
    *out = NULL;
    struct file_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    weir_buffer_init(&stream->text, TEXT_BYTES_MAX);
    weir_buffer_init(&stream->object, OBJECT_BYTES);
    stream->place = place;
    stream->kind = is_container              ? CONTAINER
                   : ends_with(path, ".gz")  ? GZIP
                   : ends_with(path, ".zst") ? ZSTD
                                             : PLAIN;
    stream->path = strdup(path);
    int rc = stream->path == NULL ? WEIR_E_NOMEM : WEIR_OK;
    if (rc == WEIR_OK && stream->kind != PLAIN) {
        stream->raw = malloc(RAW_BYTES);
        stream->raw_capacity = RAW_BYTES;
        rc = stream->raw == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    if (rc == WEIR_OK && stream->kind == GZIP) {
        stream->has_gzip = inflateInit2(&stream->gzip, 15 + 16) == Z_OK; /* gzip wrapper only */
        rc = stream->has_gzip ? WEIR_OK : WEIR_E_NOMEM;
    }
    if (rc == WEIR_OK && stream->kind == CONTAINER) {
        stream->container = avro_container_create();
        rc = stream->container == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    if (rc == WEIR_OK && stream->kind == ZSTD) {
        stream->zstd = ZSTD_createDStream();
        rc = stream->zstd == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    stream->fd = -1;
    rc = rc != WEIR_OK ? weir_error_set(err, rc, "out of memory") : open_bytes(stream, err);
    if (rc != WEIR_OK) {
        file_stream_close(stream);
        return rc;
    }
    *out = stream;
    return WEIR_OK;
}

static int read_object(struct file_stream *stream, uint8_t *to, size_t room, size_t *got,
                       struct weir_error *err) {
    size_t left = stream->object.size - stream->object_at;
    if (left == 0) {
        uint64_t behind = (uint64_t)stream->info.size_bytes - stream->raw_offset;
        int64_t wanted = behind < OBJECT_BYTES ? (int64_t)behind : OBJECT_BYTES;
        weir_buffer_clear(&stream->object);
        stream->object_at = 0;
        int rc = wanted > 0
                     ? weir_store_get(file_place_store(stream->place),
                                      file_place_name(stream->place, stream->path),
                                      (int64_t)stream->raw_offset, wanted, &stream->object, err)
                     : WEIR_OK;
        if (rc != WEIR_OK) {
            return weir_error_wrap(err, "cannot read %s at byte %llu", stream->path,
                                   (unsigned long long)stream->raw_offset);
        }
        left = stream->object.size;
    }
    *got = left < room ? left : room;
    if (*got > 0) {
        memcpy(to, stream->object.data + stream->object_at, *got);
    }
    stream->object_at += *got;
    stream->raw_offset += *got;
    return WEIR_OK;
}

static int read_raw(struct file_stream *stream, uint8_t *to, size_t room, size_t *got,
                    struct weir_error *err) {
    if (stream->place != NULL) {
        return read_object(stream, to, room, got, err);
    }
    ssize_t n;
    do {
        n = read(stream->fd, to, room);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return weir_error_system(err, WEIR_E_IO, errno, "cannot read %s at byte %llu", stream->path,
                                 (unsigned long long)stream->raw_offset);
    }
    stream->raw_offset += (uint64_t)n;
    *got = (size_t)n;
    return WEIR_OK;
}

static int fail_corrupt(const struct file_stream *stream, const char *what,
                        struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CORRUPT,
                          "%s is damaged before its byte %llu: %s; replace it with a good copy or "
                          "take it out of the folder",
                          stream->path, (unsigned long long)stream->raw_offset, what);
}

static int inflate_some(struct file_stream *stream, uint8_t *to, size_t room, size_t *got,
                        struct weir_error *err) {
    z_stream *z = &stream->gzip;
    if (!stream->inside) {
        if (inflateReset(z) != Z_OK) {
            return fail_corrupt(stream, "gzip", err);
        }
        stream->inside = true;
    }
    z->next_in = stream->raw + stream->raw_at;
    z->avail_in = (uInt)(stream->raw_end - stream->raw_at);
    z->next_out = to;
    z->avail_out = (uInt)room;
    int result = inflate(z, Z_NO_FLUSH);
    stream->raw_at = stream->raw_end - z->avail_in;
    *got = room - z->avail_out;
    stream->pending = z->avail_out == 0;
    if (result == Z_STREAM_END) {
        stream->inside = false;
        stream->pending = false;
        return WEIR_OK;
    }
    return result == Z_OK || result == Z_BUF_ERROR
               ? WEIR_OK
               : fail_corrupt(stream, z->msg != NULL ? z->msg : "not gzip", err);
}

static int unzstd_some(struct file_stream *stream, uint8_t *to, size_t room, size_t *got,
                       struct weir_error *err) {
    ZSTD_inBuffer in = {.src = stream->raw, .size = stream->raw_end, .pos = stream->raw_at};
    ZSTD_outBuffer out = {.dst = to, .size = room};
    size_t result = ZSTD_decompressStream(stream->zstd, &out, &in);
    stream->raw_at = in.pos;
    *got = out.pos;
    if (ZSTD_isError(result)) {
        return fail_corrupt(stream, ZSTD_getErrorName(result), err);
    }
    stream->inside = result != 0;
    stream->pending = out.pos == room && result != 0;
    return WEIR_OK;
}

/* Room for more of a block behind what there is of it. */
static int grow_raw(struct file_stream *stream, struct weir_error *err) {
    memmove(stream->raw, stream->raw + stream->raw_at, stream->raw_end - stream->raw_at);
    stream->raw_end -= stream->raw_at;
    stream->raw_at = 0;
    if (stream->raw_capacity - stream->raw_end >= RAW_BYTES / 2) {
        return WEIR_OK;
    }
    size_t capacity = stream->raw_capacity * 2;
    uint8_t *raw = capacity <= 2 * (size_t)BLOCK_BYTES_MAX ? realloc(stream->raw, capacity) : NULL;
    if (raw == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory for a block of %s", stream->path);
    }
    stream->raw = raw;
    stream->raw_capacity = capacity;
    return WEIR_OK;
}

/* The text of one block more, if the file has it. */
static int read_block(struct file_stream *stream, struct weir_error *err) {
    size_t got = 1;
    size_t used = 0;
    int rc = WEIR_OK;
    stream->text_at = 0;
    weir_buffer_clear(&stream->text);
    while (rc == WEIR_OK && stream->text.size == 0 && got > 0) {
        rc = avro_container_read(stream->container, stream->raw + stream->raw_at,
                                 stream->raw_end - stream->raw_at, &used, &stream->text, err);
        if (rc == WEIR_OK && used == 0) {
            rc = grow_raw(stream, err);
            rc = rc == WEIR_OK ? read_raw(stream, stream->raw + stream->raw_end,
                                          stream->raw_capacity - stream->raw_end, &got, err)
                               : rc;
            stream->raw_end += rc == WEIR_OK ? got : 0;
        }
        if (rc == WEIR_OK && got == 0) {
            rc = avro_container_stuck(stream->container, stream->raw + stream->raw_at,
                                      stream->raw_end - stream->raw_at, &used, &stream->text, err);
            got = used;
        }
        stream->raw_at += used;
    }
    stream->inside = stream->raw_at < stream->raw_end;
    return rc == WEIR_E_CORRUPT ? weir_error_wrap(err, "%s", stream->path) : rc;
}

static int read_container(struct file_stream *stream, uint8_t *to, size_t room, size_t *got,
                          struct weir_error *err) {
    if (stream->text_at == stream->text.size) {
        int rc = read_block(stream, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    size_t left = stream->text.size - stream->text_at;
    *got = left < room ? left : room;
    if (*got > 0) {
        memcpy(to, stream->text.data + stream->text_at, *got);
    }
    stream->text_at += *got;
    return WEIR_OK;
}

int file_stream_read(struct file_stream *stream, uint8_t *to, size_t room, size_t *got,
                     struct weir_error *err) {
    *got = 0;
    if (stream->kind == PLAIN) {
        return read_raw(stream, to, room, got, err);
    }
    if (stream->kind == CONTAINER) {
        return read_container(stream, to, room, got, err);
    }
    room = room < INT32_MAX ? room : INT32_MAX;
    for (;;) {
        if (stream->raw_at == stream->raw_end && !stream->pending) {
            stream->raw_at = stream->raw_end = 0;
            int rc = read_raw(stream, stream->raw, RAW_BYTES, &stream->raw_end, err);
            if (rc != WEIR_OK || stream->raw_end == 0) {
                return rc;
            }
        }
        int rc = stream->kind == GZIP ? inflate_some(stream, to, room, got, err)
                                      : unzstd_some(stream, to, room, got, err);
        if (rc != WEIR_OK || *got > 0) {
            return rc;
        }
    }
}

bool file_stream_is_cut(const struct file_stream *stream) {
    return stream->inside;
}

bool file_stream_is_whole(const struct file_stream *stream) {
    return stream->place != NULL;
}

/* Another object under its name: the bytes read may be of both. */
static bool was_replaced(const struct file_stream *stream) {
    struct weir_store_info now;
    int rc = weir_store_stat(file_place_store(stream->place),
                             file_place_name(stream->place, stream->path), &now, NULL);
    return rc == WEIR_OK && (now.size_bytes != stream->info.size_bytes ||
                             now.modified_ms != stream->info.modified_ms);
}

bool file_stream_shrank(const struct file_stream *stream) {
    struct stat st;
    if (stream->place != NULL) {
        return was_replaced(stream);
    }
    return fstat(stream->fd, &st) == 0 && (uint64_t)st.st_size < stream->raw_offset;
}

int64_t file_stream_age_us(const struct file_stream *stream) {
    struct stat st;
    struct timespec now;
    if (stream->place != NULL) {
        return weir_clock_wall_us() - stream->info.modified_ms * 1000;
    }
    if (fstat(stream->fd, &st) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return INT64_MAX;
    }
    return (now.tv_sec - st.st_mtim.tv_sec) * 1000000 + (now.tv_nsec - st.st_mtim.tv_nsec) / 1000;
}
