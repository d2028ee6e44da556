/* Object stores: signatures, listings and addresses by themselves; the store contract against the
 * server that WEIR_STORE_URL names (tests/integration/test_stores.py starts real ones). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "lake/store/object.h"
#include "lake/store/open.h"
#include "lake/store/s3.h"

enum { BIG_BYTES = 20 << 20, WRITERS = 8, ROUNDS = 10 };

/* --- without a server ------------------------------------------------------------------------- */

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, its published examples. */
static void test_signatures_are_those_amazon_published(void **state) {
    (void)state;
    const char *get[] = {"host:examplebucket.s3.amazonaws.com", "range:bytes=0-9",
                         "x-amz-content-sha256:" EMPTY_HASH, "x-amz-date:20130524T000000Z"};
    const char *list[] = {"host:examplebucket.s3.amazonaws.com", "x-amz-content-sha256:" EMPTY_HASH,
                          "x-amz-date:20130524T000000Z"};
    struct weir_buffer out;
    weir_buffer_init(&out, 4096);
    assert_int_equal(weir_s3_authorization("GET", "/test.txt", "", get, 4, EMPTY_HASH, "us-east-1",
                                           "20130524T000000Z", "AKIAIOSFODNN7EXAMPLE",
                                           "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &out),
                     WEIR_OK);
    assert_string_equal(
        weir_buffer_text(&out),
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    weir_buffer_clear(&out);
    assert_int_equal(weir_s3_authorization("GET", "/", "max-keys=2&prefix=J", list, 3, EMPTY_HASH,
                                           "us-east-1", "20130524T000000Z", "AKIAIOSFODNN7EXAMPLE",
                                           "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &out),
                     WEIR_OK);
    assert_non_null(strstr(weir_buffer_text(&out),
                           "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
    weir_buffer_fini(&out);
}

static void test_pages_of_both_services_are_read(void **state) {
    (void)state;
    static const char s3[] =
        "<?xml version=\"1.0\"?><ListBucketResult><Name>lake</Name><Prefix>t/</Prefix>"
        "<Contents><Key>t/a &amp; b.json</Key><LastModified>2026-01-05T06:00:00.123Z</LastModified>"
        "<Size>42</Size><Owner><ID>x</ID></Owner></Contents>"
        "<CommonPrefixes><Prefix>t/log/</Prefix></CommonPrefixes>"
        "<NextContinuationToken>go/on==</NextContinuationToken></ListBucketResult>";
    static const char azure[] =
        "\xef\xbb\xbf<?xml version=\"1.0\"?><EnumerationResults><Prefix>t/</Prefix><Blobs><Blob>"
        "<Name>t/b.json</Name><Properties><Last-Modified>Mon, 05 Jan 2026 06:00:00 GMT"
        "</Last-Modified><Content-Length>7</Content-Length></Properties></Blob>"
        "<BlobPrefix><Name>t/log/</Name></BlobPrefix></Blobs><NextMarker/></EnumerationResults>";
    struct object_listing listing = {0};
    assert_int_equal(object_listing_parse(&listing, s3, sizeof(s3) - 1, NULL), WEIR_OK);
    assert_string_equal(listing.next.token, "go/on==");
    assert_int_equal(object_listing_parse(&listing, azure, sizeof(azure) - 1, NULL), WEIR_OK);
    assert_string_equal(listing.next.token, "");
    assert_int_equal(listing.count, 4);
    assert_string_equal(listing.entries[0].key, "t/a & b.json");
    assert_int_equal(listing.entries[0].size_bytes, 42);
    assert_int_equal(listing.entries[0].modified_ms, INT64_C(1767592800123));
    assert_true(listing.entries[1].is_dir);
    assert_string_equal(listing.entries[2].key, "t/b.json");
    assert_int_equal(listing.entries[2].size_bytes, 7);
    assert_int_equal(listing.entries[2].modified_ms, INT64_C(1767592800000));
    assert_true(listing.entries[3].is_dir);
    assert_int_equal(object_listing_parse(&listing, s3, 100, NULL), WEIR_E_CORRUPT);
    object_listing_fini(&listing);
}

static void expect_refusal(const char *url, const char *options, int code, const char *text) {
    struct weir_store *store = NULL;
    struct weir_error err = {0};
    json_t *json = options != NULL ? json_loads(options, 0, NULL) : NULL;
    assert_int_equal(weir_store_open_url(url, json, false, &store, &err), code);
    assert_non_null(strstr(err.message, text));
    assert_null(store);
    json_decref(json);
}

static void test_addresses_that_cannot_be_are_refused_with_the_way_out(void **state) {
    (void)state;
    unsetenv("AZURE_STORAGE_ACCOUNT_NAME");
    unsetenv("AZURE_STORAGE_ACCOUNT");
    unsetenv("WEIR_ABSENT");
    expect_refusal("gopher://lake", NULL, WEIR_E_CONFIG, "gopher://");
    expect_refusal("s3:///folder", NULL, WEIR_E_CONFIG, "s3://bucket/folder");
    expect_refusal("az://lake/t", NULL, WEIR_E_CONFIG, "storage.account");
    expect_refusal("abfss://c@a.dfs.core.windows.net/t",
                   "{\"account_key\":{\"env\":\"WEIR_ABSENT\"}}", WEIR_E_ENVIRONMENT,
                   "WEIR_ABSENT");
    setenv("WEIR_ABSENT", "not base64!", 1);
    expect_refusal("abfss://c@a.dfs.core.windows.net/t",
                   "{\"account_key\":{\"env\":\"WEIR_ABSENT\"}}", WEIR_E_ENVIRONMENT, "base64");
    unsetenv("WEIR_ABSENT");
    expect_refusal("abfss://c@a.dfs.core.windows.net/t", "{\"client_secret\":{\"parts\":[\"x\"]}}",
                   WEIR_E_CONFIG, "tenant");
}

static void test_an_abfss_address_is_the_blob_endpoint(void **state) {
    (void)state;
    struct weir_store *store = NULL;
    unsetenv("AZURE_STORAGE_ENDPOINT");
    assert_int_equal(weir_store_open_url("abfss://gold@acme.dfs.core.windows.net/lake/retail/",
                                         NULL, false, &store, NULL),
                     WEIR_OK);
    struct object_store *object = (struct object_store *)store;
    struct object_call call = {.method = "GET", .key = "lake/retail/a b"};
    struct weir_buffer url;
    struct curl_slist *headers = NULL;
    weir_buffer_init(&url, 4096);
    assert_int_equal(object->provider->sign(object, &call, &url, &headers, NULL), WEIR_OK);
    assert_string_equal(weir_buffer_text(&url),
                        "https://acme.blob.core.windows.net/gold/lake/retail/a%20b");
    assert_string_equal(object->root, "lake/retail");
    curl_slist_free_all(headers);
    weir_buffer_fini(&url);
    weir_store_destroy(store);
}

/* --- against a server ------------------------------------------------------------------------- */

static struct weir_store *server(void) {
    const char *url = getenv("WEIR_STORE_URL");
    struct weir_store *store = NULL;
    struct weir_error err = {0};
    if (url == NULL) {
        print_message("WEIR_STORE_URL names no server\n");
        skip();
    }
    if (weir_store_open_url(url, NULL, false, &store, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    return store;
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct weir_error err = {0};                                                               \
        struct weir_error *e = &err;                                                               \
        int rc_ = (call);                                                                          \
        if (rc_ != WEIR_OK) {                                                                      \
            fail_msg("%s: %s", #call, err.message);                                                \
        }                                                                                          \
        (void)e;                                                                                   \
    } while (0)

static int collect(void *context, const char *path, const struct weir_store_info *info) {
    return weir_buffer_printf(context, "%s%s ", path, info->is_dir ? "/" : "");
}

static void expect_names(struct weir_store *store, const char *dir, const char *prefix,
                         const char *after, bool dirs, const char *wanted) {
    struct weir_buffer names;
    weir_buffer_init(&names, 65536);
    OK(store->ops->list(store, dir, prefix, after, dirs, collect, &names, e));
    assert_string_equal(names.size > 0 ? weir_buffer_text(&names) : "", wanted);
    weir_buffer_fini(&names);
}

static void test_the_contract(void **state) {
    (void)state;
    struct weir_store *store = server();
    struct weir_buffer out;
    struct weir_store_info info;
    weir_buffer_init(&out, 4096);
    OK(weir_store_put(store, "c/hint", "a", 1, e));
    OK(weir_store_remove(store, "c/log/1", e));
    OK(weir_store_put_if_absent(store, "c/log/1", "one", 3, e));
    assert_int_equal(weir_store_put_if_absent(store, "c/log/1", "two", 3, NULL), WEIR_E_CONFLICT);
    OK(weir_store_put(store, "c/log/\xc3\xa9 &+%.json", "", 0, e));
    OK(weir_store_put(store, "c/log/2", "twotwo", 6, e));
    OK(weir_store_get(store, "c/log/2", 1, 3, &out, e));
    assert_string_equal(weir_buffer_text(&out), "wot");
    assert_int_equal(weir_store_get(store, "c/log/2", 4, 3, &out, NULL), WEIR_E_CORRUPT);
    weir_buffer_clear(&out);
    OK(weir_store_get(store, "c/log/1", 0, -1, &out, e));
    assert_string_equal(weir_buffer_text(&out), "one");
    assert_int_equal(weir_store_get(store, "c/none", 0, -1, &out, NULL), WEIR_E_NOTFOUND);
    OK(weir_store_stat(store, "c/log/2", &info, e));
    assert_int_equal(info.size_bytes, 6);
    assert_true(info.modified_ms > INT64_C(1700000000000));
    assert_int_equal(weir_store_stat(store, "c/none", &info, NULL), WEIR_E_NOTFOUND);
    expect_names(store, "c/log", NULL, NULL, false, "c/log/1 c/log/2 c/log/\xc3\xa9 &+%.json ");
    expect_names(store, "c/log", NULL, "1", false, "c/log/2 c/log/\xc3\xa9 &+%.json ");
    expect_names(store, "c/log", "2", NULL, false, "c/log/2 ");
    expect_names(store, "c", NULL, NULL, true, "c/hint c/log/ ");
    expect_names(store, "c", NULL, NULL, false, "c/hint ");
    expect_names(store, "c/absent", NULL, NULL, true, "");
    OK(weir_store_remove(store, "c/log/\xc3\xa9 &+%.json", e));
    OK(weir_store_remove(store, "c/log/\xc3\xa9 &+%.json", e));
    expect_names(store, "c/log", NULL, NULL, false, "c/log/1 c/log/2 ");
    weir_buffer_fini(&out);
    weir_store_destroy(store);
}

static void test_files_large_and_small_appear_whole(void **state) {
    (void)state;
    struct weir_store *store = server();
    uint8_t *bytes = malloc(BIG_BYTES);
    struct weir_store_file *file;
    struct weir_buffer out;
    struct weir_store_info info;
    assert_non_null(bytes);
    for (size_t i = 0; i < BIG_BYTES; i++) {
        bytes[i] = (uint8_t)(i * 2654435761U >> 13);
    }
    weir_buffer_init(&out, BIG_BYTES + 1);
    static const size_t sizes[] = {0, 5, 8 << 20, (8 << 20) + 1, BIG_BYTES};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        char name[32];
        snprintf(name, sizeof(name), "f/%zu", s);
        OK(weir_store_remove(store, name, e));
        OK(weir_store_open(store, name, WEIR_STORE_CREATE, &file, e));
        for (size_t at = 0; at < sizes[s]; at += 700001) {
            OK(weir_store_file_write(file, bytes + at,
                                     sizes[s] - at < 700001 ? sizes[s] - at : 700001, e));
        }
        assert_int_equal(weir_store_stat(store, name, &info, NULL), WEIR_E_NOTFOUND);
        OK(weir_store_file_sync(file, e));
        OK(weir_store_file_close(file, true, e));
        weir_buffer_clear(&out);
        OK(weir_store_get(store, name, 0, -1, &out, e));
        assert_int_equal(out.size, sizes[s]);
        assert_true(sizes[s] == 0 || memcmp(out.data, bytes, sizes[s]) == 0);
    }
    /* A name that is taken, and one given up half way. */
    OK(weir_store_open(store, "f/4", WEIR_STORE_CREATE, &file, e));
    OK(weir_store_file_write(file, bytes, 9 << 20, e));
    assert_int_equal(weir_store_file_sync(file, NULL), WEIR_E_EXISTS);
    OK(weir_store_file_close(file, false, e));
    OK(weir_store_stat(store, "f/4", &info, e));
    assert_int_equal(info.size_bytes, BIG_BYTES);
    OK(weir_store_open(store, "f/given-up", WEIR_STORE_CREATE, &file, e));
    OK(weir_store_file_write(file, bytes, 9 << 20, e));
    OK(weir_store_file_close(file, false, e));
    assert_int_equal(weir_store_stat(store, "f/given-up", &info, NULL), WEIR_E_NOTFOUND);
    weir_buffer_fini(&out);
    free(bytes);
    weir_store_destroy(store);
}

struct racer {
    struct weir_store *store;
    int number;
    int won[ROUNDS];
    pthread_barrier_t *barrier;
};

static void *race(void *user) {
    struct racer *racer = user;
    for (int round = 0; round < ROUNDS; round++) {
        char name[32];
        char text[16];
        snprintf(name, sizeof(name), "r/%d", round);
        int size = snprintf(text, sizeof(text), "%d", racer->number);
        pthread_barrier_wait(racer->barrier);
        int rc = weir_store_put_if_absent(racer->store, name, text, (size_t)size, NULL);
        racer->won[round] = rc == WEIR_OK ? 1 : rc == WEIR_E_CONFLICT ? 0 : 100;
    }
    return NULL;
}

static void test_one_of_racing_writers_wins(void **state) {
    (void)state;
    struct weir_store *store = server();
    pthread_barrier_t barrier;
    pthread_t threads[WRITERS];
    struct racer racers[WRITERS] = {0};
    pthread_barrier_init(&barrier, NULL, WRITERS);
    for (int i = 0; i < WRITERS; i++) {
        racers[i] = (struct racer){.store = store, .number = i, .barrier = &barrier};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int winners = 0;
        for (int i = 0; i < WRITERS; i++) {
            winners += racers[i].won[round];
        }
        assert_int_equal(winners, 1);
    }
    pthread_barrier_destroy(&barrier);
    weir_store_destroy(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signatures_are_those_amazon_published),
        cmocka_unit_test(test_pages_of_both_services_are_read),
        cmocka_unit_test(test_the_contract),
        cmocka_unit_test(test_files_large_and_small_appear_whole),
        cmocka_unit_test(test_one_of_racing_writers_wins),
        /* These take the server's variables away. */
        cmocka_unit_test(test_addresses_that_cannot_be_are_refused_with_the_way_out),
        cmocka_unit_test(test_an_abfss_address_is_the_blob_endpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
