/* Listings of object stores: pages of XML, read with expat. */
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lake/store/object.h"

enum { PAGE_BYTES_MAX = 64 << 20, TEXT_BYTES_MAX = 4096, ENTRIES_MAX = 50000000 };

struct page_reader {
    struct object_listing *listing;
    struct object_entry entry;
    bool in_entry;
    bool in_prefix; /* S3 CommonPrefixes, Azure BlobPrefix */
    char text[TEXT_BYTES_MAX];
    size_t text_size;
    int rc;
};

/* "2026-01-05T06:00:00.000Z" (S3) or "Mon, 05 Jan 2026 06:00:00 GMT" (Azure). */
static int64_t read_time_ms(const char *text) {
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest != NULL) {
        int64_t ms = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
        return (int64_t)timegm(&tm) * 1000 + ms % 1000;
    }
    time_t when = curl_getdate(text, NULL);
    return when < 0 ? 0 : (int64_t)when * 1000;
}

static void XMLCALL on_start(void *user, const char *name, const char **attributes) {
    struct page_reader *r = user;
    (void)attributes;
    r->text_size = 0;
    if (strcmp(name, "Contents") == 0 || strcmp(name, "Blob") == 0) {
        r->in_entry = true;
    } else if (strcmp(name, "CommonPrefixes") == 0 || strcmp(name, "BlobPrefix") == 0) {
        r->in_prefix = true;
    }
}

static void XMLCALL on_text(void *user, const char *text, int length) {
    struct page_reader *r = user;
    if (r->text_size + (size_t)length >= TEXT_BYTES_MAX) {
        r->rc = WEIR_E_LIMIT;
        return;
    }
    memcpy(r->text + r->text_size, text, (size_t)length);
    r->text_size += (size_t)length;
}

static void keep(struct page_reader *r) {
    struct object_listing *listing = r->listing;
    if (listing->count == listing->capacity && r->rc == WEIR_OK) {
        size_t capacity = listing->capacity == 0 ? 256 : listing->capacity * 2;
        struct object_entry *entries =
            capacity > ENTRIES_MAX ? NULL : realloc(listing->entries, capacity * sizeof(*entries));
        if (entries == NULL) {
            r->rc = WEIR_E_NOMEM;
        } else {
            listing->entries = entries;
            listing->capacity = capacity;
        }
    }
    if (r->rc == WEIR_OK && r->entry.key != NULL) {
        listing->entries[listing->count++] = r->entry;
    } else {
        free(r->entry.key);
    }
    r->entry = (struct object_entry){0};
}

static void set_key(struct page_reader *r) {
    free(r->entry.key);
    r->entry.key = strdup(r->text);
    if (r->entry.key == NULL) {
        r->rc = WEIR_E_NOMEM;
    }
}

static void XMLCALL on_end(void *user, const char *name) {
    struct page_reader *r = user;
    r->text[r->text_size] = '\0';
    if (r->in_entry) {
        if (strcmp(name, "Key") == 0 || strcmp(name, "Name") == 0) {
            set_key(r);
        } else if (strcmp(name, "Size") == 0 || strcmp(name, "Content-Length") == 0) {
            r->entry.size_bytes = strtoll(r->text, NULL, 10);
        } else if (strcmp(name, "LastModified") == 0 || strcmp(name, "Last-Modified") == 0) {
            r->entry.modified_ms = read_time_ms(r->text);
        } else if (strcmp(name, "ResourceType") == 0 && strcmp(r->text, "directory") == 0) {
            r->entry.is_dir = true; /* a hierarchical account's folder, listed as an object */
        } else if (strcmp(name, "Contents") == 0 || strcmp(name, "Blob") == 0) {
            r->in_entry = false;
            keep(r);
        }
    } else if (r->in_prefix) {
        if (strcmp(name, "Prefix") == 0 || strcmp(name, "Name") == 0) {
            set_key(r);
        } else if (strcmp(name, "CommonPrefixes") == 0 || strcmp(name, "BlobPrefix") == 0) {
            r->in_prefix = false;
            r->entry.is_dir = true;
            keep(r);
        }
    } else if (strcmp(name, "NextContinuationToken") == 0 || strcmp(name, "NextMarker") == 0) {
        int used = snprintf(r->listing->next.token, sizeof(r->listing->next.token), "%s", r->text);
        if (used < 0 || (size_t)used >= sizeof(r->listing->next.token)) {
            r->rc = WEIR_E_LIMIT;
        }
    }
    r->text_size = 0;
}

int object_listing_parse(struct object_listing *listing, const void *xml, size_t size,
                         struct weir_error *err) {
    struct page_reader *r = calloc(1, sizeof(*r));
    XML_Parser parser = XML_ParserCreate(NULL);
    int rc = WEIR_OK;
    listing->next.token[0] = '\0';
    if (r == NULL || parser == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "listing: out of memory");
    } else {
        r->listing = listing;
        XML_SetUserData(parser, r);
        XML_SetElementHandler(parser, on_start, on_end);
        XML_SetCharacterDataHandler(parser, on_text);
        if (XML_Parse(parser, xml, (int)size, 1) == XML_STATUS_ERROR) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "listing: %s in line %lu",
                                XML_ErrorString(XML_GetErrorCode(parser)),
                                (unsigned long)XML_GetCurrentLineNumber(parser));
        } else if (r->rc != WEIR_OK) {
            rc = weir_error_set(err, r->rc, "listing: larger than this reader takes");
        }
        free(r->entry.key);
    }
    XML_ParserFree(parser);
    free(r);
    return rc;
}

void object_listing_fini(struct object_listing *listing) {
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->entries[i].key);
    }
    free(listing->entries);
    *listing = (struct object_listing){0};
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct object_entry *)a)->key, ((const struct object_entry *)b)->key);
}

/* Calls `visit` for what lies directly in the directory. Names of folders end in '/'. */
static int visit_entries(struct object_store *store, struct object_listing *listing,
                         const char *after, bool dirs, weir_store_visit *visit, void *context) {
    size_t root = store->root[0] != '\0' ? strlen(store->root) + 1 : 0;
    const char *last = NULL;
    for (size_t i = 0; i < listing->count; i++) {
        struct object_entry *entry = &listing->entries[i];
        size_t length = strlen(entry->key);
        if (length > 0 && entry->key[length - 1] == '/') {
            entry->key[--length] = '\0';
            entry->is_dir = true;
        }
        if (length <= root || (entry->is_dir && !dirs) ||
            (after != NULL && strcmp(entry->key, after) <= 0) ||
            (last != NULL && strcmp(entry->key, last) == 0)) {
            continue;
        }
        last = entry->key;
        struct weir_store_info info = {.size_bytes = entry->size_bytes,
                                       .modified_ms = entry->modified_ms,
                                       .is_dir = entry->is_dir};
        int rc = visit(context, entry->key + root, &info);
        if (rc != 0) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int fetch_pages(struct object_store *store, const char *prefix, const char *after,
                       struct object_listing *listing, struct weir_error *err) {
    struct weir_buffer page;
    weir_buffer_init(&page, PAGE_BYTES_MAX);
    int rc = WEIR_OK;
    do {
        struct object_cursor cursor = listing->next;
        struct object_call call = {.method = "GET"};
        store->provider->list(&call, prefix, after, &cursor);
        weir_buffer_clear(&page);
        struct weir_http_response response;
        rc = object_call(store, &call, &page, &response, err);
        if (rc == WEIR_OK && response.status != 200) {
            rc = object_refused(store, "list", NULL, &response, err);
        }
        if (rc == WEIR_OK) {
            rc = object_listing_parse(listing, page.data, page.size, err);
        }
        if (rc == WEIR_OK && listing->next.token[0] != '\0' &&
            strcmp(listing->next.token, cursor.token) == 0) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "list %s: the same page came twice",
                                store->url);
        }
    } while (rc == WEIR_OK && listing->next.token[0] != '\0');
    weir_buffer_fini(&page);
    return rc;
}

int object_list(struct weir_store *base, const char *dir, const char *prefix,
                const char *start_after, bool dirs, weir_store_visit *visit, void *context,
                struct weir_error *err) {
    struct object_store *store = (struct object_store *)base;
    char *folder = object_key(store, dir);
    char *whole = NULL;
    char *after = NULL;
    const char *slash = folder != NULL && folder[0] != '\0' ? "/" : "";
    int rc = WEIR_OK;
    if (folder == NULL ||
        asprintf(&whole, "%s%s%s", folder, slash, prefix != NULL ? prefix : "") < 0 ||
        (start_after != NULL && asprintf(&after, "%s%s%s", folder, slash, start_after) < 0)) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "list %s: out of memory", store->url);
    }
    struct object_listing listing = {0};
    if (rc == WEIR_OK) {
        rc = fetch_pages(store, whole, after, &listing, err);
    }
    if (rc == WEIR_OK) {
        if (listing.count > 0) {
            qsort(listing.entries, listing.count, sizeof(*listing.entries), by_key);
        }
        rc = visit_entries(store, &listing, after, dirs, visit, context);
    }
    object_listing_fini(&listing);
    free(folder);
    free(whole);
    free(after);
    return rc;
}
