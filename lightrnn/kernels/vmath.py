"""Vector mathematics on 16 lanes of float32.

Errors are in units in the last place against float64, over all finite inputs unless said otherwise.
NaN gives NaN everywhere.
"""

from __future__ import annotations

from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import (
    absolute,
    bits_float,
    copy_sign,
    float_bits,
    fma,
    is_nan,
    lanes_max,
    maximum,
    minimum,
    negate,
    round_even,
    scale_by_power,
    select,
    splat,
    splat_int,
    to_float,
)

_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_LOG2_E = 1.4426950408889634
_ROUNDER = 12582912.0
"""1.5 * 2**23: adding it rounds to a whole number and leaves that in the low bits."""


@inlined
def _split(x):
    """n and r with x = n ln 2 + r, n whole, |r| <= ln 2 / 2; x within [-104, 104]."""
    magic = splat(_ROUNDER)
    n = fma(x, splat(_LOG2_E), magic) - magic
    r = fma(n, splat(-_LN2_HIGH), x)
    return n, fma(n, splat(-_LN2_LOW), r)


@inlined
def _expm1_near_zero(r):
    """exp(r) - 1 for |r| <= ln 2 / 2."""
    p = splat(1.9875691500e-4)
    p = fma(p, r, splat(1.3981999507e-3))
    p = fma(p, r, splat(8.3334519073e-3))
    p = fma(p, r, splat(4.1665795894e-2))
    p = fma(p, r, splat(1.6666665459e-1))
    p = fma(p, r, splat(5.0000001201e-1))
    return fma(p, r * r, r)


@inlined
def exp(x):
    """e**x, 1.1 ulp."""
    n, r = _split(minimum(maximum(x, splat(-104.0)), splat(89.0)))
    return scale_by_power(_expm1_near_zero(r) + splat(1.0), n)


@inlined
def expm1_negative(x):
    """e**x - 1 for x up to 0, 1.5 ulp; 0 above."""
    n, r = _split(minimum(maximum(x, splat(-20.0)), splat(0.0)))
    s = scale_by_power(splat(1.0), n)
    return fma(s, _expm1_near_zero(r), s - splat(1.0))


@inlined
def sigmoid(x):
    """1 / (1 + e**-x), 2.5 ulp."""
    below = negate(absolute(x))
    low = splat(-104.0)
    n, r = _split(select(below < low, low, below))
    e = scale_by_power(_expm1_near_zero(r) + splat(1.0), n)
    return select(x < splat(0.0), e, splat(1.0)) / (e + splat(1.0))


@inlined
def tanh(x):
    """Hyperbolic tangent, 2.5 ulp: m / (m + 2) with m = expm1(2|x|)."""
    a = absolute(x)
    twice, top = a + a, splat(20.0)
    n, r = _split(select(twice > top, top, twice))
    s = bits_float((float_bits(n + splat(_ROUNDER)) + splat_int(127)) << splat_int(23))
    m = fma(s, _expm1_near_zero(r), s - splat(1.0))
    return copy_sign(m / (m + splat(2.0)), x)


@inlined
def log(x):
    """Natural logarithm, 1 ulp; 0 gives -inf, below 0 NaN."""
    tiny = x < splat(1.17549435e-38)
    scaled = select(tiny, x * splat(8388608.0), x)
    bits = float_bits(scaled) - splat_int(0x3F3504F3)  # sqrt(1/2), the mantissa's middle
    k = bits >> splat_int(23)
    m = bits_float((bits & splat_int(0x7FFFFF)) + splat_int(0x3F3504F3)) - splat(1.0)
    e = to_float(k) - select(tiny, splat(23.0), splat(0.0))
    z = m * m
    p = splat(7.0376836292e-2)
    p = fma(p, m, splat(-1.1514610310e-1))
    p = fma(p, m, splat(1.1676998740e-1))
    p = fma(p, m, splat(-1.2420140846e-1))
    p = fma(p, m, splat(1.4249322787e-1))
    p = fma(p, m, splat(-1.6668057665e-1))
    p = fma(p, m, splat(2.0000714765e-1))
    p = fma(p, m, splat(-2.4999993993e-1))
    p = fma(p, m, splat(3.3333331174e-1))
    y = fma(p * m, z, e * splat(_LN2_LOW))
    y = fma(splat(-0.5), z, y) + m
    y = fma(e, splat(_LN2_HIGH), y)
    infinite = splat(float("inf"))
    y = select(x == infinite, infinite, y)
    y = select(x == splat(0.0), negate(infinite), y)
    return select((x < splat(0.0)) | is_nan(x), splat(float("nan")), y)


@inlined
def log1p_of_exp(x):
    """log(1 + e**x) for x <= 0, 2 ulp: the rounding of 1 + e**x is added back."""
    e = exp(x)
    w = splat(1.0) + e
    return log(w) + (e - (w - splat(1.0))) / w


@inlined
def softplus(x):
    """log(1 + e**x), 2 ulp."""
    return maximum(x, splat(0.0)) + log1p_of_exp(negate(absolute(x)))


@inlined
def erf(x):
    """Error function, 2 ulp: an odd polynomial below 1, 1 - e**-p(|x|) above."""
    a = minimum(absolute(x), splat(4.0))
    z = a * a
    p = splat(7.853856368456036e-05)
    p = fma(p, z, splat(-8.010191959328949e-04))
    p = fma(p, z, splat(5.188327748328447e-03))
    p = fma(p, z, splat(-2.6853810995817184e-02))
    p = fma(p, z, splat(1.128358542919159e-01))
    p = fma(p, z, splat(-3.761262595653534e-01))
    p = fma(p, z, splat(1.2837916612625122e-01))
    small = fma(p, a, a)
    q = splat(-4.314345915190643e-06)
    q = fma(q, a, splat(3.7931484257569537e-05))
    q = fma(q, a, splat(8.884044655133039e-05))
    q = fma(q, a, splat(-3.0394531786441803e-03))
    q = fma(q, a, splat(2.285253442823887e-02))
    q = fma(q, a, splat(-1.0543347895145416e-01))
    q = fma(q, a, splat(-6.355364322662354e-01))
    q = fma(q, a, splat(-1.2857113778591156e-01))
    large = splat(1.0) - exp(fma(q, a, negate(a)))
    large = select(a == splat(4.0), splat(1.0), large)
    return copy_sign(select(a < splat(1.0), small, large), x)


@inlined
def _quarter(x):
    """n and r with x = n * pi / 2 + r, |r| <= pi / 4."""
    n = round_even(x * splat(0.6366197723675814))
    r = fma(n, splat(-1.5707963705062866), x)
    r = fma(n, splat(4.371138828673793e-08), r)
    return n, fma(n, splat(1.7151245100059e-15), r)


@inlined
def _sine_of(n, r):
    """sin(n * pi / 2 + r) from the polynomials of sine and cosine."""
    z = r * r
    s = fma(fma(splat(-1.9515295891e-4), z, splat(8.3321608736e-3)), z, splat(-1.6666654611e-1))
    sine = fma(s * z, r, r)
    c = fma(fma(splat(2.443315711809948e-5), z, splat(-1.388731625493765e-3)), z,
            splat(4.166664568298827e-2))  # fmt: skip
    cosine = fma(c * z, z, fma(splat(-0.5), z, splat(1.0)))
    turns = float_bits(n + splat(_ROUNDER))
    odd = (turns & splat_int(1)) == splat_int(1)
    value = select(odd, cosine, sine)
    return select((turns & splat_int(2)) == splat_int(2), negate(value), value)


@inlined
def sin(x):
    """Sine, absolute error 1e-7 for |x| below LARGE_ANGLE, and 2e-7 beyond by `reduced_angle`."""
    n, r = _quarter(x)
    return _sine_of(n, r)


@inlined
def cos(x):
    """Cosine, absolute error 1e-7 for |x| below LARGE_ANGLE, and 2e-7 beyond by `reduced_angle`."""
    n, r = _quarter(x)
    return _sine_of(n + splat(1.0), r)


LARGE_ANGLE = 524288.0
"""2**19: from here on a float32 is a multiple of 1 / 16, and `_quarter` cannot count its turns."""


@inlined
def has_large_angle(x):
    """Whether a finite lane is not below LARGE_ANGLE in magnitude."""
    a = absolute(x)
    return lanes_max(select(a < splat(float("inf")), a, splat(0.0))) >= LARGE_ANGLE


@inlined
def _digits(j):
    """Bits 16 j to 16 j + 15 of 2 / pi after the point."""
    word = 0
    if 0 <= j < 3:
        word = 0xA2F9836E4E44
    elif 3 <= j < 6:
        word = 0x1529FC2757D1
    elif 6 <= j < 9:
        word = 0xF534DDC0DB62
    elif 9 <= j < 12:
        word = 0x95993C439041
    return (word >> (32 - 16 * (j % 3))) & 0xFFFF


@inlined
def reduced_angle(x):
    """One large angle less its whole turns, error 1e-11; one below LARGE_ANGLE as it is.

    Payne and Hanek, Radian reduction for trigonometric functions, 1983: with |x| = m 2**(16 q - 4),
    digits of 2 / pi before number q - 1 contribute whole turns only, and those after q + 5 nothing.
    """
    m, q, quarters, scale = float(abs(x)) * 16.0, 0, 0.0, 0.0625
    if not LARGE_ANGLE * 16.0 <= m < float("inf"):
        return x
    while m >= 1099511627776.0:
        m, q = m / 65536.0, q + 1
    for k in range(7):
        term = int(m) * _digits(q - 1 + k)
        if k < 4:
            term &= (64 << (16 * k)) - 1
        quarters += term * scale
        scale /= 65536.0
    quarters -= 4.0 * int(quarters * 0.25 + 0.5)
    return quarters * 1.5707963267948966 * (1.0 if x > 0.0 else -1.0)
