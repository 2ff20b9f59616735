/* Another C library, for LD_PRELOAD: half of what these functions give is one step greater than what this one gives.
   What results may take from the C library is left out: exp, log, pow, sin and cos of double precision, and what every
   C library rounds correctly or computes exactly. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

static int chosen(uint64_t bits) { return bits * 0x9E3779B97F4A7C15u >> 63; }
static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

#define NUDGED(name, type, next, parameters, types, arguments, x) \
    type name parameters \
    { \
        static type(*theirs) types; \
        if (!theirs) \
            theirs = (type(*) types)dlsym(RTLD_NEXT, #name); \
        type y = theirs arguments; \
        /* 0 and 1 are what exact arguments give, whose values no library misses. */ \
        return y != 0 && y != 1 && isfinite(y) && chosen(bits_of(x)) ? next(y, INFINITY) : y; \
    }
#define UNARY_FLOAT(name) NUDGED(name, float, nextafterf, (float x), (float), (x), x)
#define UNARY(name) \
    NUDGED(name, double, nextafter, (double x), (double), (x), x) \
    UNARY_FLOAT(name##f)
#define BINARY_FLOAT(name) NUDGED(name, float, nextafterf, (float x, float y_), (float, float), (x, y_), x)
#define BINARY(name) \
    NUDGED(name, double, nextafter, (double x, double y_), (double, double), (x, y_), x) \
    BINARY_FLOAT(name##f)

UNARY_FLOAT(expf) UNARY_FLOAT(logf) UNARY_FLOAT(sinf) UNARY_FLOAT(cosf) BINARY_FLOAT(powf)
UNARY(exp2) UNARY(expm1) UNARY(log1p) UNARY(log2) UNARY(log10) UNARY(cbrt)
UNARY(tan) UNARY(asin) UNARY(acos) UNARY(atan) UNARY(sinh) UNARY(cosh) UNARY(tanh) UNARY(asinh) UNARY(acosh) UNARY(atanh)
UNARY(erf) UNARY(erfc) UNARY(lgamma) UNARY(tgamma)
BINARY(atan2) BINARY(hypot)
