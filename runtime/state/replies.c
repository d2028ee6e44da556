/* A queue by number: replies come in order and leave from the front. */
#include "state/replies.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "state/image.h"

enum { VALUE_HEAD_BYTES = 10, KEY_BYTES = 8 };
#define SHAPE UINT64_C(0x7265706c69657301)

struct reply {
    uint64_t number;
    uint64_t epoch;
    int64_t time_us;
    uint8_t *body; /* a weir_block; NULL: empty */
    uint32_t size;
    int32_t status;
};

struct weir_replies {
    struct weir_cell cell;
    char *name;
    int64_t keep_us;
    size_t bytes_max;
    pthread_mutex_t lock; /* all below but the loop's own */
    struct reply *list;   /* [first, first + count), by number */
    size_t first;
    size_t count;
    size_t room;
    size_t bytes;
    uint64_t forgotten_below; /* numbers below it are not kept any more */
    uint64_t forgotten;
    uint64_t durable; /* epoch */
    uint64_t told;    /* epoch of the newest reply somebody was told of */
    void (*more)(void *context);
    void *context;
    /* the loop's */
    uint64_t next_collect; /* numbers from it on are in no image yet */
    uint64_t sealed;       /* numbers below it are of sealed epochs */
    int64_t clock_us;
};

static size_t cost(const struct reply *reply) {
    return sizeof(*reply) + reply->size;
}

static struct reply *at(struct weir_replies *r, size_t index) {
    return &r->list[r->first + index];
}

static uint64_t end_of(struct weir_replies *r) {
    return r->count > 0 ? at(r, r->count - 1)->number + 1 : 0;
}

/* The first at or after `number`; count: there is none. */
static size_t lower(struct weir_replies *r, uint64_t number) {
    size_t low = 0;
    size_t high = r->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (at(r, middle)->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void drop_first(struct weir_replies *r) {
    struct reply *reply = at(r, 0);
    r->bytes -= cost(reply);
    r->forgotten_below = reply->number + 1;
    r->forgotten++;
    weir_block_give(reply->body);
    r->first++;
    r->count--;
}

/* What no image holds yet stays. */
static void trim(struct weir_replies *r) {
    while (r->count > 0 && at(r, 0)->number < r->next_collect &&
           (r->bytes > r->bytes_max || at(r, 0)->time_us < r->clock_us - r->keep_us)) {
        drop_first(r);
    }
}

static int make_room(struct weir_replies *r) {
    if (r->first > 0 && r->first + r->count == r->room && r->first >= r->count) {
        memcpy(r->list, r->list + r->first, r->count * sizeof(*r->list));
        r->first = 0;
    }
    if (r->first + r->count < r->room) {
        return WEIR_OK;
    }
    size_t room = r->room > 0 ? r->room * 2 : 256;
    struct reply *list = weir_block_take(room * sizeof(*list));
    if (list == NULL) {
        return WEIR_E_NOMEM;
    }
    if (r->count > 0) {
        memcpy(list, r->list + r->first, r->count * sizeof(*list));
    }
    weir_block_give(r->list);
    r->list = list;
    r->room = room;
    r->first = 0;
    return WEIR_OK;
}

/* With the lock held. */
static int insert(struct weir_replies *r, const struct reply *what, const void *body) {
    size_t place = end_of(r) <= what->number ? r->count : lower(r, what->number);
    if (place < r->count && at(r, place)->number == what->number) {
        return WEIR_OK;
    }
    if (make_room(r) != WEIR_OK) {
        return WEIR_E_NOMEM;
    }
    struct reply reply = *what;
    if (reply.size > 0) {
        reply.body = weir_block_take(reply.size);
        if (reply.body == NULL) {
            return WEIR_E_NOMEM;
        }
        memcpy(reply.body, body, reply.size);
    }
    memmove(at(r, place + 1), at(r, place), (r->count - place) * sizeof(reply));
    *at(r, place) = reply;
    r->count++;
    r->bytes += cost(&reply);
    return WEIR_OK;
}

/* --- the cell ------------------------------------------------------------------------------- */

static int seal(void *self, struct weir_error *err) {
    struct weir_replies *r = self;
    pthread_mutex_lock(&r->lock);
    bool whole = r->sealed <= r->next_collect;
    r->sealed = end_of(r) > r->sealed ? end_of(r) : r->sealed;
    pthread_mutex_unlock(&r->lock);
    return whole
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_BUG, "%s: the epoch before is not collected", r->name);
}

static int put_image(const struct reply *reply, struct weir_buffer *out) {
    size_t value = VALUE_HEAD_BYTES + reply->size;
    int rc = weir_buffer_reserve(out, 1 + 8 + 1 + KEY_BYTES + WEIR_VARINT_MAX + value);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *to = out->data + out->size;
    *to++ = WEIR_IMAGE_PUT;
    to = weir_u64_put(to, reply->number);
    to = weir_varint_put(to, KEY_BYTES);
    to = weir_u64_put(to, reply->number);
    to = weir_varint_put(to, value);
    uint16_t status = (uint16_t)reply->status;
    memcpy(to, &status, sizeof(status));
    to = weir_u64_put(to + sizeof(status), (uint64_t)reply->time_us);
    if (reply->size > 0) {
        memcpy(to, reply->body, reply->size);
    }
    out->size = (size_t)(to + reply->size - out->data);
    return WEIR_OK;
}

/* Images of up to max_slots from *next on, below `end`. */
static int put_some(struct weir_replies *r, uint64_t *next, uint64_t end, struct weir_buffer *out,
                    size_t max_slots, bool *done, struct weir_error *err) {
    size_t mark = out->size;
    uint64_t from = *next;
    pthread_mutex_lock(&r->lock);
    size_t index = lower(r, from);
    bool any = index < r->count && at(r, index)->number < end;
    int rc = any ? weir_image_put_header(out, SHAPE, r->name) : WEIR_OK;
    size_t empty = out->size;
    for (; rc == WEIR_OK && max_slots > 0 && index < r->count && at(r, index)->number < end;
         max_slots--) {
        rc = put_image(at(r, index), out);
        if (rc == WEIR_OK) {
            from = at(r, index++)->number + 1;
        }
    }
    *done = index >= r->count || at(r, index)->number >= end;
    pthread_mutex_unlock(&r->lock);
    if (rc != WEIR_OK && out->size > empty) {
        rc = WEIR_OK; /* what fitted stays, the next slice has the rest */
    }
    if (rc != WEIR_OK) {
        out->size = mark;
        return weir_error_set(err, rc, "%s: images do not fit", r->name);
    }
    *next = *done && from < end ? end : from;
    return WEIR_OK;
}

static int collect(void *self, struct weir_buffer *out, size_t max_slots, bool *done,
                   struct weir_error *err) {
    struct weir_replies *r = self;
    int rc = put_some(r, &r->next_collect, r->sealed, out, max_slots, done, err);
    if (rc == WEIR_OK && *done) {
        pthread_mutex_lock(&r->lock);
        trim(r);
        pthread_mutex_unlock(&r->lock);
    }
    return rc;
}

static int dump(void *self, struct weir_cell_cursor *cursor, struct weir_buffer *out,
                size_t max_slots, bool *done, struct weir_error *err) {
    struct weir_replies *r = self;
    if (!cursor->started) { /* what comes later is in the records that follow */
        cursor->started = true;
        pthread_mutex_lock(&r->lock);
        cursor->major = (int64_t)end_of(r);
        pthread_mutex_unlock(&r->lock);
    }
    return put_some(r, &cursor->minor, (uint64_t)cursor->major, out, max_slots, done, err);
}

static int take_image(void *self, uint8_t op, struct weir_image_reader *reader,
                      struct weir_error *err) {
    struct weir_replies *r = self;
    struct reply reply = {0};
    const uint8_t *key;
    const uint8_t *value;
    size_t key_size;
    size_t size;
    uint16_t status;
    if (op == WEIR_IMAGE_HEADER) {
        return weir_image_check_header(reader, SHAPE, r->name, err);
    }
    if (op != WEIR_IMAGE_PUT || !weir_image_u64(reader, &reply.number) ||
        !weir_image_bytes(reader, &key, &key_size) || !weir_image_bytes(reader, &value, &size) ||
        key_size != KEY_BYTES || size < VALUE_HEAD_BYTES ||
        size - VALUE_HEAD_BYTES > WEIR_REPLY_BYTES_MAX) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: state image is cut off", r->name);
    }
    memcpy(&status, value, sizeof(status));
    memcpy(&reply.time_us, value + sizeof(status), sizeof(reply.time_us));
    reply.status = status;
    reply.size = (uint32_t)(size - VALUE_HEAD_BYTES);
    pthread_mutex_lock(&r->lock);
    int rc = insert(r, &reply, value + VALUE_HEAD_BYTES);
    r->next_collect = r->sealed = end_of(r);
    trim(r);
    pthread_mutex_unlock(&r->lock);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "%s: out of memory", r->name);
}

static int apply(void *self, const uint8_t *bytes, size_t length, struct weir_error *err) {
    struct weir_replies *r = self;
    return weir_images_apply(r->name, bytes, length, take_image, r, err);
}

static size_t keys(const void *self) {
    struct weir_replies_figures figures;
    weir_replies_figures((struct weir_replies *)(uintptr_t)self, &figures);
    return figures.kept;
}

static size_t bytes(const void *self) {
    struct weir_replies_figures figures;
    weir_replies_figures((struct weir_replies *)(uintptr_t)self, &figures);
    return figures.bytes;
}

static const struct weir_cell_ops ops = {seal, collect, dump, apply, keys, bytes};

/* --- life ----------------------------------------------------------------------------------- */

struct weir_replies *weir_replies_create(const struct weir_replies_options *options) {
    struct weir_replies *r = calloc(1, sizeof(*r));
    char *name = strdup(options->cell);
    if (r == NULL || name == NULL) {
        free(r);
        free(name);
        return NULL;
    }
    pthread_mutex_init(&r->lock, NULL);
    r->name = name;
    r->keep_us = options->keep_us;
    r->bytes_max = options->bytes_max;
    r->clock_us = INT64_MIN + options->keep_us;
    r->cell = (struct weir_cell){name, &ops, r};
    return r;
}

void weir_replies_destroy(struct weir_replies *r) {
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->count; i++) {
        weir_block_give(at(r, i)->body);
    }
    weir_block_give(r->list);
    pthread_mutex_destroy(&r->lock);
    free(r->name);
    free(r);
}

struct weir_cell *weir_replies_cell(struct weir_replies *r) {
    return &r->cell;
}

int weir_replies_put(struct weir_replies *r, uint64_t number, int status, const void *body,
                     size_t size, int64_t clock_us, uint64_t epoch) {
    struct reply reply = {.number = number,
                          .epoch = epoch,
                          .time_us = clock_us,
                          .size = (uint32_t)size,
                          .status = status};
    pthread_mutex_lock(&r->lock);
    r->clock_us = clock_us;
    int rc = number >= r->next_collect ? insert(r, &reply, body) : WEIR_OK;
    pthread_mutex_unlock(&r->lock);
    return rc;
}

void weir_replies_restored(struct weir_replies *r, uint64_t epoch) {
    pthread_mutex_lock(&r->lock);
    r->durable = r->told = epoch;
    pthread_mutex_unlock(&r->lock);
}

void weir_replies_durable(struct weir_replies *r, uint64_t epoch) {
    pthread_mutex_lock(&r->lock);
    r->durable = epoch;
    size_t index = r->count; /* the newest that can be seen */
    while (index > 0 && at(r, index - 1)->epoch > epoch) {
        index--;
    }
    if (index > 0 && at(r, index - 1)->epoch > r->told) {
        r->told = epoch;
        if (r->more != NULL) {
            r->more(r->context);
        }
    }
    pthread_mutex_unlock(&r->lock);
}

int weir_replies_find(struct weir_replies *r, uint64_t number, enum weir_reply *found, int *status,
                      struct weir_buffer *body) {
    int rc = WEIR_OK;
    pthread_mutex_lock(&r->lock);
    size_t index = lower(r, number);
    bool gone = number < r->forgotten_below || (r->count > 0 && number < at(r, 0)->number);
    *found = gone ? WEIR_REPLY_FORGOTTEN : WEIR_REPLY_NONE;
    if (index < r->count && at(r, index)->number == number && at(r, index)->epoch <= r->durable) {
        *found = WEIR_REPLY_FOUND;
        *status = at(r, index)->status;
        rc = weir_buffer_append(body, at(r, index)->body, at(r, index)->size);
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

void weir_replies_listen(struct weir_replies *r, void (*more)(void *context), void *context) {
    pthread_mutex_lock(&r->lock);
    r->more = more;
    r->context = context;
    pthread_mutex_unlock(&r->lock);
}

void weir_replies_figures(struct weir_replies *r, struct weir_replies_figures *out) {
    pthread_mutex_lock(&r->lock);
    *out = (struct weir_replies_figures){r->count, r->bytes, r->forgotten};
    pthread_mutex_unlock(&r->lock);
}
