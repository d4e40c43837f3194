#!/usr/bin/env python3
"""Prints the polynomials of base/mathf_constants.h; needs mpmath and numpy. The header is committed, so building needs
neither; run this to change a degree, and paste. Chebyshev interpolation in 60 digits for the polynomials (within a few
per cent of minimax), iterated weighted least squares for the rational tanh."""
import mpmath as mp
import numpy as np

mp.mp.dps = 60


def chebyshev(function, low, high, count):
    """Monomial coefficients, ascending, of the interpolant of `function` at `count` Chebyshev nodes of [low, high]."""
    low, high = mp.mpf(low), mp.mpf(high)
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    powers = mp.matrix([[x**i for i in range(count)] for x in nodes])
    return list(mp.lu_solve(powers, mp.matrix([function(x) for x in nodes])))



def exp_rest(r):
    return (mp.expm1(r) - r) / r**2 if abs(r) > mp.mpf(10)**-15 else mp.mpf(1) / 2


def log_rest(z):
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s**3 if z > mp.mpf(10)**-15 else mp.mpf(2) / 3


def tanh_rational(degree, limit, rounds=60, points=4000):
    """x P(x^2) / Q(x^2) with P(0) = Q(0) = 1, least relative maximum on (0, limit]."""
    k = np.arange(points)
    x = np.concatenate([limit * (0.5 - 0.5 * np.cos(np.pi * (k + 0.5) / points)), np.linspace(1e-4, limit, points)])
    t, u, weight, q, best = np.tanh(x), x * x / limit**2, np.ones_like(x), np.ones_like(x), None
    powers = [u**i for i in range(1, degree + 1)]
    for _ in range(rounds):
        scale = np.sqrt(weight) / (t * q)
        a = np.stack([x * p for p in powers] + [-t * p for p in powers], axis=1) * scale[:, None]
        norm = np.abs(a).max(0)
        solution = np.linalg.lstsq(a / norm, (t - x) * scale, rcond=None)[0] / norm
        p = 1 + sum(c * power for c, power in zip(solution[:degree], powers))
        q = 1 + sum(c * power for c, power in zip(solution[degree:], powers))
        error = np.abs(x * p / q / t - 1)
        if best is None or error.max() < best[0]:
            best = error.max(), solution
        weight *= error / error.mean() + 0.05
        weight /= weight.mean()
    scale = [limit ** (-2 * i) for i in range(1, degree + 1)]
    return best[0], best[1][:degree] * scale, best[1][degree:] * scale


def show(name, value, single):
    text = float(np.float32(float(value))).hex() if single else float(value).hex()
    mantissa, exponent = text.split("p")
    mantissa = mantissa.rstrip("0").rstrip(".")
    print(f"#define OC_{name:<14} {mantissa}p{exponent}{'f' if single else ''}")


def show_all(name, values, single, first):
    for i, value in enumerate(values):
        show(f"{name}{i + first}", value, single)


for single, suffix, exp_count, log_count in ((True, "F", 5, 4), (False, "", 10, 8)):
    half = mp.log(2) / 2
    high = mp.mpf(float(np.float32(float(mp.log(2))))) if single else mp.mpf(float(mp.log(2)))
    show(f"LOG2E{suffix}", 1 / mp.log(2), single)
    show(f"LN2{suffix}_HIGH", high, single)
    show(f"LN2{suffix}_LOW", mp.log(2) - high, single)
    show_all(f"EXP{suffix}_", chebyshev(exp_rest, -half, half, exp_count), single, 2)
    limit = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1))**2
    show_all(f"LOG{suffix}_", chebyshev(log_rest, 0, limit, log_count), single, 0)
error, p, q = tanh_rational(4, 9.02)
print(f"/* tanh: relative error {error:.2g} before rounding */")
show_all("TANHF_P", p, True, 1)
show_all("TANHF_Q", q, True, 1)
