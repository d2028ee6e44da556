// The C++ library has the shortest form of a double that reads back the same (Ryu); C has not.
#include "sink/encode_number.h"

#include <charconv>

extern "C" char *weir_encode_double(char *at, double value) {
    return std::to_chars(at, at + ENCODE_DOUBLE_BYTES, value).ptr;
}

extern "C" char *weir_encode_float(char *at, float value) {
    return std::to_chars(at, at + ENCODE_DOUBLE_BYTES, value).ptr;
}
