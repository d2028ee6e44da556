/* The floor under every figure about JSON: simdjson walks the same file's documents and does
 * nothing with them but read each field's value. usage: bench_parse_floor FILE [REPEATS] */
#include <simdjson.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

static double cpu_seconds() {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

static size_t walk(const simdjson::padded_string &text) {
    simdjson::ondemand::parser parser;
#ifdef SIMDJSON_THREADS_ENABLED
    parser.threaded = false; /* its first stage on a second thread would pay for two */
#endif
    simdjson::ondemand::document_stream documents;
    size_t events = 0;
    if (parser.iterate_many(text, size_t{1} << 20).get(documents)) {
        return 0;
    }
    for (auto document : documents) {
        simdjson::ondemand::object object;
        if (document.get_object().get(object)) {
            return 0;
        }
        for (auto field : object) {
            std::string_view key;
            simdjson::ondemand::value value;
            if (field.unescaped_key().get(key) || field.value().get(value)) {
                return 0;
            }
        }
        events++;
    }
    return events;
}

/* Without a file: events of the shape the end-to-end bench uses, made in memory. */
static simdjson::padded_string sample() {
    std::string text;
    char line[320];
    for (int i = 0; i < 100000; i++) {
        snprintf(
            line, sizeof(line),
            "{\"event_id\":\"e-%012d\",\"store_id\":%d,\"sku\":\"S%03d\",\"channel\":\"store\","
            "\"currency\":\"GBP\",\"qty\":%d,\"unit_price\":%d.50,\"discount\":0.00,"
            "\"gross\":%d.00,\"vat\":%d.00,\"weight\":%d.25,\"receipt\":%d,"
            "\"sold_at\":%lld,\"note\":\"padding of a till line\"}\n",
            i, i % 900 + 1, i % 200, i % 5 + 1, i % 90, i % 400, i % 70, i % 30, i,
            1767607200000000LL + i * 1000LL);
        text += line;
    }
    return simdjson::padded_string(text);
}

int main(int argc, char **argv) {
    simdjson::padded_string text;
    if (argc < 2) {
        text = sample();
    } else if (simdjson::padded_string::load(argv[1]).get(text)) {
        fprintf(stderr, "bench_parse_floor: cannot read %s\n", argv[1]);
        return 1;
    }
    int repeats = argc > 2 ? static_cast<int>(strtol(argv[2], nullptr, 10)) : 5;
    double best = 1e9;
    size_t events = 0;
    for (int i = 0; i < repeats; i++) {
        double start = cpu_seconds();
        events = walk(text);
        double took = cpu_seconds() - start;
        best = took < best ? took : best;
    }
    if (events == 0) {
        fprintf(stderr, "bench_parse_floor: no events parsed\n");
        return 1;
    }
    printf("parse floor: simdjson alone %.0f ns/event, %.1f MB/s, %zu events of %.0f bytes\n",
           best * 1e9 / static_cast<double>(events), static_cast<double>(text.size()) / best / 1e6,
           events, static_cast<double>(text.size()) / static_cast<double>(events));
    return 0;
}
