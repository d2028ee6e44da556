#pragma once
/* A file as a stream of uncompressed bytes: plain, gzip (several members) or zstd (several frames),
 * by its name's ending; or an Avro container as its text (decode/avro/avro_container.h). Private to
 * the files source. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "source/files/file_place.h"

struct file_stream;

/* `place` (borrowed): whose object it is; NULL: a file of the machine. */
int file_stream_open(struct file_stream **out, const char *path, struct file_place *place,
                     bool is_container, struct weir_error *err) WEIR_MUST_CHECK;
void file_stream_close(struct file_stream *stream);
/* Up to `room` bytes. *got 0: nothing more for now; the file may grow. */
int file_stream_read(struct file_stream *stream, uint8_t *to, size_t room, size_t *got,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* After a read of 0: true when the file stops inside a compressed member or frame. */
bool file_stream_is_cut(const struct file_stream *stream);
/* Microseconds since the file was last changed. */
int64_t file_stream_age_us(const struct file_stream *stream);
/* It will not grow: an object of a store, which appears whole. */
bool file_stream_is_whole(const struct file_stream *stream);
/* After a read of 0: true when the file is shorter than what was read of it. */
bool file_stream_shrank(const struct file_stream *stream);
