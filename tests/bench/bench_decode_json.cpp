// JSON lines in a file to columns beside a bare simdjson parse of the same text, already in memory:
// CPU nanoseconds an event. Bare runs on one thread, so that its first stage counts too.
// usage: bench_decode_json [FILE SCHEMA]     without: the generator's sales
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <simdjson.h>
#include <string>

#include "core/clock.h"

extern "C" {
#include "source/generator.h"
#include "source/source.h"
}

namespace {

constexpr uint64_t EVENTS = 400000;
constexpr int ROUNDS = 3;

double bare_ns(const char *path) {
    simdjson::padded_string text = simdjson::padded_string::load(path);
    simdjson::dom::parser parser;
    parser.threaded = false;
    int64_t begin = weir_clock_thread_cpu_ns();
    simdjson::dom::document_stream stream;
    uint64_t events = 0;
    if (parser.parse_many(text).get(stream) != simdjson::SUCCESS) {
        return 0;
    }
    for (auto document : stream) {
        events += document.error() == simdjson::SUCCESS;
    }
    return double(weir_clock_thread_cpu_ns() - begin) / double(events);
}

double source_ns(const char *kind, const char *options, const char *decoder,
                 const char *decoder_options) {
    weir_error err = {};
    weir_pool *pool = weir_pool_create(512u << 20);
    weir_schema *schema = decoder_options == nullptr ? weir_generator_schema() : nullptr;
    weir_source_config config = {};
    config.name = "bench";
    config.kind = kind;
    config.options_json = options;
    config.decoder = decoder;
    config.decoder_options_json = decoder_options;
    config.schema = schema;
    config.pool = pool;
    config.until_end = true;
    weir_source *source = nullptr;
    if (weir_source_create(&source, &config, &err) != 0 ||
        weir_source_open(source, nullptr, 0, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    int64_t begin = weir_clock_thread_cpu_ns();
    int64_t rows = 0;
    weir_source_batch *batch = nullptr;
    while (weir_source_next(source, 0, 0, &batch, &err) == 0 && batch != nullptr) {
        rows += batch->rows;
        weir_source_batch_release(batch);
    }
    double ns = double(weir_clock_thread_cpu_ns() - begin) / double(rows);
    weir_source_destroy(source);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return ns;
}

int decode_file(const char *path, const char *schema) {
    std::string options = std::string("{\"path\":\"") + path + "\"}";
    std::string by = std::string("{\"schema\":\"") + schema + "\"}";
    double bare = 1e9;
    double decode = 1e9;
    for (int i = 0; i < 4 * ROUNDS; i++) {
        bare = std::min(bare, bare_ns(path));
        decode = std::min(decode, source_ns("files", options.c_str(), "json", by.c_str()));
    }
    printf("decode json: %.0f ns/event, bare simdjson (from memory) %.0f ns/event, ratio %.2f\n",
           decode, bare, decode / bare);
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    if (argc == 3) {
        return decode_file(argv[1], argv[2]);
    }
    weir_error err = {};
    char path[] = "/tmp/weir_bench_XXXXXX";
    FILE *file = fdopen(mkstemp(path), "wb");
    if (file == nullptr || weir_generator_write_jsonl(1, EVENTS, file, &err) != 0) {
        return 1;
    }
    long bytes = ftell(file);
    fclose(file);
    std::string options = std::string("{\"path\":\"") + path + "\"}";
    double bare = 1e9;
    double decode = 1e9;
    double generate = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        bare = std::min(bare, bare_ns(path));
        decode = std::min(decode, source_ns("files", options.c_str(), "json", nullptr));
        generate =
            std::min(generate, source_ns("generator", "{\"count\":400000}", nullptr, nullptr));
    }
    remove(path);
    printf("decode json: %.0f ns/event (%ld bytes), bare simdjson (from memory) %.0f ns/event, "
           "ratio %.2f\n",
           decode, bytes / long(EVENTS), bare, decode / bare);
    printf("generator: %.0f ns/event, %.1f M events/s\n", generate, 1e3 / generate);
    return 0;
}
