/* Exact value functions that both C and LuaJIT call (ffi.C.weir_*). None of them allocates, blocks
 * or touches the VM, so they are safe inside generated loops. Text arguments are pointer and
 * length. See runtime/core/{decimal,time,zone,number}.c. */

/* --- decimals: value = (hi:lo as 128-bit two's complement) * 10^-scale, scale 0..38 ------------ */

enum weir_number_status {
    WEIR_NUMBER_OK = 0,
    WEIR_NUMBER_OVERFLOW = 1,    /* more than 38 digits (decimals) or out of range (int64, time) */
    WEIR_NUMBER_DIVIDE = 2,      /* division by zero */
    WEIR_NUMBER_SYNTAX = 3,      /* the text is not a number, date, time or zone */
    WEIR_NUMBER_RANGE = 4        /* scale, unit or buffer size not allowed; NaN and infinity */
};

/* out may be a or b. All return enum weir_number_status; out is untouched unless 0. */
int weir_decimal_add(struct weir_decimal128 *out, const struct weir_decimal128 *a, const struct weir_decimal128 *b);
int weir_decimal_sub(struct weir_decimal128 *out, const struct weir_decimal128 *a, const struct weir_decimal128 *b);
int weir_decimal_mul(struct weir_decimal128 *out, const struct weir_decimal128 *a, const struct weir_decimal128 *b);
/* scale of the result: max(6, a.scale, b.scale), half-even */
int weir_decimal_div(struct weir_decimal128 *out, const struct weir_decimal128 *a, const struct weir_decimal128 *b);
/* a - b * floor(a / b): Lua's %, sign of b; scale max(a.scale, b.scale) */
int weir_decimal_mod(struct weir_decimal128 *out, const struct weir_decimal128 *a, const struct weir_decimal128 *b);
/* truncated quotient, scale 0 */
int weir_decimal_idiv(struct weir_decimal128 *out, const struct weir_decimal128 *a, const struct weir_decimal128 *b);
/* -x; abs(x) overflow never: 38 digits are symmetric */
void weir_decimal_negate(struct weir_decimal128 *out, const struct weir_decimal128 *a);
/* To another scale (0..38), rounding half-even when it shrinks. */
int weir_decimal_rescale(struct weir_decimal128 *out, const struct weir_decimal128 *a, int32_t scale);
/* Rounds half-even to `digits` decimals (may be negative, as round(x, -2)); keeps the scale when it is already
 * smaller, otherwise the scale becomes max(digits, 0). */
int weir_decimal_round(struct weir_decimal128 *out, const struct weir_decimal128 *a, int32_t digits);
/* -1, 0, 1 by exact value, whatever the scales. */
int weir_decimal_compare(const struct weir_decimal128 *a, const struct weir_decimal128 *b);
/* a against a finite or infinite double by exact value; NaN compares greater than everything (returns -1). */
int weir_decimal_compare_double(const struct weir_decimal128 *a, double b);
/* 1 when |unscaled| < 10^precision. */
int weir_decimal_fits(const struct weir_decimal128 *a, int32_t precision);
/* "12.50", "-0.2", "1e3", "2.5E-1": scale as written ("12.50" has 2, "1e3" 0, "2.5e-1" 2). */
int weir_decimal_from_text(struct weir_decimal128 *out, const char *text, int64_t length);
/* The shortest decimal text that reads back as this double: 0.2 -> 2 scale 1; 1e22 exact; SYNTAX never, RANGE for NaN, inf. */
int weir_decimal_from_double(struct weir_decimal128 *out, double value);
void weir_decimal_from_int64(struct weir_decimal128 *out, int64_t value);
/* The exact whole value; OVERFLOW when out of int64, RANGE when it has a fraction. */
int weir_decimal_to_int64(int64_t *out, const struct weir_decimal128 *a);
/* The nearest double (correctly rounded). */
double weir_decimal_to_double(const struct weir_decimal128 *a);
/* Plain digits with exactly `scale` decimals, no exponent. buffer: at least 48 bytes. Returns the length. */
int weir_decimal_to_text(const struct weir_decimal128 *a, char *buffer);

/* --- int64: OVERFLOW or DIVIDE instead of wrapping ---------------------------------------------- */

int weir_int64_add(struct weir_int64 *out, int64_t a, int64_t b);
int weir_int64_sub(struct weir_int64 *out, int64_t a, int64_t b);
int weir_int64_mul(struct weir_int64 *out, int64_t a, int64_t b);
int weir_int64_idiv(struct weir_int64 *out, int64_t a, int64_t b);  /* truncates */
int weir_int64_mod(struct weir_int64 *out, int64_t a, int64_t b);   /* Lua's %: sign of b */
/* -1, 0, 1 by exact value; NaN compares greater than everything (returns -1). */
int weir_int64_compare_double(int64_t a, double b);
int weir_int64_from_text(struct weir_int64 *out, const char *text, int64_t length); /* [+-]digits */
int weir_int64_to_text(int64_t value, char *buffer);                                /* >= 24 bytes */

/* --- doubles: same bits compiled and interpreted; a NaN result is always LuaJIT's own ------------- */

double weir_math_pow(double x, double y);
double weir_math_exp(double x);
double weir_math_log(double x);
double weir_math_log10(double x);
double weir_math_sin(double x);
double weir_math_cos(double x);
double weir_math_tan(double x);
double weir_math_asin(double x);
double weir_math_acos(double x);
double weir_math_atan(double x);
double weir_math_atan2(double y, double x);
double weir_math_sinh(double x);
double weir_math_cosh(double x);
double weir_math_tanh(double x);
double weir_math_sqrt(double x);
double weir_math_fmod(double x, double y);
/* Half-even to `digits` decimals of the shortest decimal text of x (so round(2.675, 2) = 2.68). */
double weir_math_round(double x, int32_t digits);
double weir_math_canonical(double x); /* any NaN becomes LuaJIT's */
/* Shortest text that reads back as x ("0.1", "1e+22", "nan", "inf"). buffer >= 32 bytes. Returns the length. */
int weir_double_to_text(double x, char *buffer);

/* --- time --------------------------------------------------------------------------------------- */

struct weir_zone; /* never freed; find once, keep the pointer */

/* "UTC", "Europe/London", "+02:00". NULL when unknown. Reads tzdata on first use of a name. */
const struct weir_zone *weir_zone_find(const char *name, int64_t length);
/* Seconds east of UTC at a UTC instant. */
int32_t weir_zone_offset(const struct weir_zone *zone, int64_t utc_seconds);
/* Local wall time (as if UTC) to UTC. A time that occurs twice gives the first, one that is skipped the change itself. */
int64_t weir_zone_to_utc(const struct weir_zone *zone, int64_t local_us);

/* Parse ISO 8601 "2026-01-05T10:00:00[.fraction][Z|+hh[:mm]]" ('T' or a space; seconds may be absent). has_zone is set to
 * 1 when an offset was given (the value is then UTC). More fraction digits than the unit holds: RANGE unless zeros. */
int weir_time_parse_us(int64_t *us, int32_t *has_zone, const char *text, int64_t length);
int weir_time_parse_ns(int64_t *ns, int32_t *has_zone, const char *text, int64_t length);
int weir_time_parse_date(int32_t *days, const char *text, int64_t length); /* "2026-01-05" */
/* ISO 8601; fraction only when not zero (3, 6 or 9 digits); utc appends "Z". buffer >= 48 bytes. Return the length. */
int weir_time_text_us(int64_t us, int32_t utc, char *buffer);
int weir_time_text_ns(int64_t ns, int32_t utc, char *buffer);
int weir_time_text_date(int32_t days, char *buffer);
/* "90s", "1.5h", "10m", "24h", "7d", "100ms", "5us", "-28d", "1h30m", "2w" to microseconds. */
int weir_duration_parse(int64_t *us, const char *text, int64_t length);
/* "1h30m", "90s" is "1m30s", "-28d", "0s". buffer >= 48 bytes. Returns the length. */
int weir_duration_to_text(int64_t us, char *buffer);

/* Calendar fields of a UTC instant in a zone (NULL: UTC). */
int32_t weir_time_date(int64_t us, const struct weir_zone *zone); /* days since 1970-01-01 */
int32_t weir_time_hour(int64_t us, const struct weir_zone *zone);
int32_t weir_time_minute(int64_t us, const struct weir_zone *zone);
int32_t weir_time_second(int64_t us, const struct weir_zone *zone);
int32_t weir_time_weekday(int64_t us, const struct weir_zone *zone); /* Monday 1 .. Sunday 7 */
int32_t weir_date_part(int32_t days, int32_t part); /* part 0 year, 1 month, 2 day, 3 weekday, 4 day of year */
/* From year, month, day; OVERFLOW for no such day. */
int weir_date_make(int32_t *days, int32_t year, int32_t month, int32_t day);
/* The latest instant <= us whose local time is a whole multiple of unit_us since local midnight 1970-01-01 (a skipped local
 * time counts as the change itself). Exact on clock-change days. unit_us > 0. */
int weir_time_trunc(int64_t *out, int64_t us, int64_t unit_us, const struct weir_zone *zone);
/* strftime's %Y %m %d %H %M %S %y %j %a %A %b %B %e %p %I %u %F %T %z %Z %s %f (microseconds, 6 digits) %L (3 digits) %%.
 * C locale. Returns the length, or -1 for an unknown conversion, -2 when capacity is too small. */
int weir_time_format(int64_t us, const char *format, int64_t format_length, const struct weir_zone *zone, char *buffer,
                     int64_t capacity);

/* --- values the runtime provides ------------------------------------------------------------------ */

int64_t weir_native_now_us(void);  /* the recorded clock, set by weir_script_set_clock */
double weir_native_random(void);   /* [0, 1), seeded by weir_script_set_seed */
