// The one C++ file of the room: simdjson's first stage and the standard library's exact
// text-to-float conversion as C functions.
#include "decode/json/json_index.h"

#include <charconv>
#include <cmath>
#include <new>
#include <simdjson.h>

struct weir_json_index {
    std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;
};

weir_json_index *weir_json_index_create(void) {
    auto *index = new (std::nothrow) weir_json_index;
    if (index != nullptr && simdjson::get_active_implementation()->create_dom_parser_implementation(
                                64 * 1024, 1, index->parser) != simdjson::SUCCESS) {
        delete index;
        return nullptr;
    }
    return index;
}

void weir_json_index_destroy(weir_json_index *index) {
    delete index;
}

enum weir_json_index_result weir_json_index_run(weir_json_index *index, const uint8_t *block,
                                                size_t length, uint32_t **positions,
                                                uint32_t *count) {
    auto &parser = *index->parser;
    if (length > parser.capacity() && parser.set_capacity(length) != simdjson::SUCCESS) {
        return WEIR_JSON_NOMEM;
    }
    switch (parser.stage1(block, length, simdjson::stage1_mode::regular)) {
    case simdjson::SUCCESS:
        break;
    case simdjson::EMPTY:
        return WEIR_JSON_EMPTY;
    case simdjson::UTF8_ERROR:
        return WEIR_JSON_UTF8;
    case simdjson::UNESCAPED_CHARS:
        return WEIR_JSON_CONTROL;
    case simdjson::UNCLOSED_STRING:
        return WEIR_JSON_UNCLOSED;
    default:
        return WEIR_JSON_BROKEN;
    }
    *positions = parser.structural_indexes.get();
    *count = parser.n_structural_indexes;
    (*positions)[*count] = static_cast<uint32_t>(length);
    (*positions)[*count + 1] = static_cast<uint32_t>(length); // simdjson has room for three
    return WEIR_JSON_INDEXED;
}

// from_chars says "out of range" for overflow and for underflow alike; underflow is zero, rounded.
template <typename T> static bool out_of_range(const char *text, const char *end, T *value) {
    bool negative = *text == '-';
    long exponent = 0; // decimal exponent of the first significant digit
    long digits = 0;
    bool significant = false;
    bool fraction = false;
    const char *p = text + (negative ? 1 : 0);
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = true;
        } else if (significant || *p != '0') {
            significant = true;
            digits += fraction ? 0 : 1;
        } else {
            digits -= fraction ? 1 : 0;
        }
    }
    if (p < end) {
        const char *from = p + (p[1] == '+' ? 2 : 1);
        if (std::from_chars(from, end, exponent).ec != std::errc()) {
            exponent = *from == '-' ? -1000000000L : 1000000000L;
        }
    }
    *value = negative ? T(-0.0) : T(0.0);
    return exponent + digits <= 0;
}

template <typename T> static bool to_number(const char *text, const char *end, T *value) {
    auto result = std::from_chars(text, end, *value);
    if (result.ec == std::errc::result_out_of_range) {
        return out_of_range(text, end, value);
    }
    return result.ec == std::errc() && std::isfinite(*value);
}

bool weir_json_to_double(const char *text, const char *end, double *value) {
    return to_number(text, end, value);
}

bool weir_json_to_float(const char *text, const char *end, float *value) {
    return to_number(text, end, value);
}
