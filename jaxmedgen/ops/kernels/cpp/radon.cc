// Parallel-beam projection and back-projection of square images, and their transposes.
//
// Images [m, n, n], sinograms [m, angles, bins], trig [angles, 2] holds cosine and sine. Positions
// are relative to the centre pixel n/2 and the centre bin bins/2. Everything is interpolated
// linearly and zero outside; borders of zeros replace tests in the inner loops.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Buffer = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<ffi::Buffer<ffi::F32>>;

namespace {

constexpr int64_t kBlocks = 8;   // partial sums of an adjoint: fixed, so that results repeat
constexpr int64_t kTile = 128;   // neighbouring rays whose pixels stay in the first cache
constexpr int64_t kRows = 4;     // rows of an image that share one pass over a sinogram
constexpr int64_t kCopies = 4;   // of a projection, so that neighbouring additions do not wait

// Linear interpolation reads neighbours in pairs: one register holds kPairs samples, each with its
// lower neighbour in an even lane and its upper one in the odd lane that follows. Sums stay in
// pairs till the end.
#if defined(__AVX512F__)
constexpr int kPairs = 8;
#elif defined(__AVX2__)
constexpr int kPairs = 4;
#else
constexpr int kPairs = 2;
#endif
typedef float Vec __attribute__((vector_size(8 * kPairs)));
typedef int32_t IntVec __attribute__((vector_size(8 * kPairs)));
typedef float Loose __attribute__((vector_size(8 * kPairs), aligned(4), may_alias));

struct Lanes {
  Vec sample, bias, sign;  // number of the sample; its weight is bias + sign * fraction
  Lanes() {
    for (int i = 0; i < 2 * kPairs; ++i) {
      sample[i] = static_cast<float>(i / 2);
      bias[i] = i % 2 ? 0.0f : 1.0f;
      sign[i] = i % 2 ? 1.0f : -1.0f;
    }
  }
};

// base[low] and base[low + 1] for each pair of equal lanes of low.
inline Vec GatherPairs(const float* base, IntVec low) {
  const double* pairs = reinterpret_cast<const double*>(base);
#if defined(__AVX512F__)
  const __m256i index = _mm512_cvtepi64_epi32((__m512i)low);
  return (Vec)_mm512_i32gather_pd(index, pairs, 4);
#elif defined(__AVX2__)
  const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  const __m256i index = _mm256_permutevar8x32_epi32((__m256i)low, even);
  return (Vec)_mm256_i32gather_pd(pairs, _mm256_castsi256_si128(index), 4);
#else
  Vec out;
  for (int i = 0; i < kPairs; ++i)
    std::memcpy(reinterpret_cast<char*>(&out) + 8 * i, base + low[2 * i], 8);
  return out;
#endif
}

inline Vec Clamp(Vec x, float low, float high) {
  const Vec lows = Vec{} + low, highs = Vec{} + high;
  x = x < lows ? lows : x;
  return x > highs ? highs : x;
}

inline float Clamp(float x, float low, float high) { return std::min(std::max(x, low), high); }

inline IntVec Truncate(Vec x) { return __builtin_convertvector(x, IntVec); }

inline Vec Fraction(Vec x, IntVec low) { return x - __builtin_convertvector(low, Vec); }

inline void Add(float* sums, Vec x) {
  Loose& at = *reinterpret_cast<Loose*>(sums);
  at += x;
}

// Straight lines through an image: sample (s, t) lies at x (fast axis) and y. The fast axis is the
// one along which s moves more, so that samples with neighbouring s share cache lines.
struct Rays {
  bool transposed;
  float xs, xt, ys, yt;

  Rays(float cosine, float sine) : transposed(std::fabs(cosine) < std::fabs(sine)) {
    if (transposed) {
      xs = -sine, xt = cosine, ys = cosine, yt = sine;
    } else {
      xs = cosine, xt = sine, ys = -sine, yt = cosine;
    }
  }
};

// Narrows [lo, hi) to the k with -1 <= start + k * step <= n, give or take one.
void Clip(float start, float step, int64_t n, int64_t& lo, int64_t& hi) {
  if (std::fabs(step) < 1e-6f) {
    if (start < -2 || start > n + 1) hi = lo;
    return;
  }
  float a = (-1 - start) / step, b = (n - start) / step;
  if (a > b) std::swap(a, b);
  const float top = static_cast<float>(n + 2);
  lo = std::max(lo, static_cast<int64_t>(std::floor(std::max(a, -2.0f))));
  hi = std::min(hi, static_cast<int64_t>(std::ceil(std::min(b, top))) + 1);
}

// Copies an image, upright and transposed, into frames of zeros: one before, two after.
void Frame(const float* image, int64_t n, float* upright, float* transposed) {
  const int64_t w = n + 3;
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = 0; c < n; ++c) {
      upright[(r + 1) * w + c + 1] = image[r * n + c];
      transposed[(c + 1) * w + r + 1] = image[r * n + c];
    }
}

// Adds to sums the framed image at the samples [first, last) of ray t, in pairs.
void AddRay(const float* frame, const Rays& ray, const Lanes& lanes, int64_t n, int64_t t,
            int64_t first, int64_t last, float* sums) {
  const int64_t c = n / 2;
  const float top = static_cast<float>(n + 1);
  const float x0 = (t - c) * ray.xt + c, y0 = (t - c) * ray.yt + c;
  int64_t lo = first, hi = last;
  Clip(x0 - c * ray.xs, ray.xs, n, lo, hi);
  Clip(y0 - c * ray.ys, ray.ys, n, lo, hi);
  const int32_t width = static_cast<int32_t>(n + 3);
  // Samples beyond the image, and beyond the last, read zeros of the frame.
  for (int64_t s = lo; s < hi; s += kPairs) {
    const Vec d = lanes.sample + static_cast<float>(s - c);
    const Vec x = Clamp(d * ray.xs + (x0 + 1), 0, top), y = Clamp(d * ray.ys + (y0 + 1), 0, top);
    const IntVec ix = Truncate(x), iy = Truncate(y), at = iy * width + ix;
    const Vec upper = GatherPairs(frame, at), lower = GatherPairs(frame + width, at);
    const Vec value = upper + Fraction(y, iy) * (lower - upper);
    Add(sums + 2 * (s - first), value * (lanes.bias + lanes.sign * Fraction(x, ix)));
  }
}

// The transpose of AddRay.
void SpreadRay(const float* __restrict values, const Rays& ray, int64_t n, int64_t t,
               int64_t first, int64_t last, float* __restrict frame) {
  const int64_t c = n / 2, w = n + 3;
  const float top = static_cast<float>(n + 1);
  const float x0 = (t - c) * ray.xt + c, y0 = (t - c) * ray.yt + c;
  int64_t lo = first, hi = last;
  Clip(x0 - c * ray.xs, ray.xs, n, lo, hi);
  Clip(y0 - c * ray.ys, ray.ys, n, lo, hi);
  for (int64_t s = lo; s < hi; ++s) {
    const float d = static_cast<float>(s - c);
    const float x = Clamp(x0 + d * ray.xs + 1, 0, top), y = Clamp(y0 + d * ray.ys + 1, 0, top);
    const int32_t ix = static_cast<int32_t>(x), iy = static_cast<int32_t>(y);
    const float fx = x - ix, fy = y - iy;
    const float lower = fy * values[s], upper = values[s] - lower;
    float* at = frame + iy * w + ix;
    at[0] += upper - fx * upper;
    at[1] += fx * upper;
    at[w] += lower - fx * lower;
    at[w + 1] += fx * lower;
  }
}

ffi::Error Project(ffi::ThreadPool pool, Buffer image, Buffer trig, Result out) {
  const int64_t m = image.dimensions()[0], n = image.dimensions()[1];
  const int64_t angles = trig.dimensions()[0], framed = (n + 3) * (n + 3);
  std::vector<float> frames(2 * m * framed);
  jaxmedgen::ParallelFor(pool, m, [&](int64_t k) {
    float* frame = frames.data() + 2 * k * framed;
    Frame(image.typed_data() + k * n * n, n, frame, frame + framed);
  });
  jaxmedgen::ParallelFor(pool, m * angles, [&](int64_t i) {
    const float* at = trig.typed_data() + 2 * (i % angles);
    const Rays ray(at[0], at[1]);
    const float* frame = frames.data() + (2 * (i / angles) + ray.transposed) * framed;
    float* line = out->typed_data() + i * n;
    const Lanes lanes;
    for (int64_t first = 0; first < n; first += kTile) {
      const int64_t last = std::min(first + kTile, n);
      float sums[2 * (kTile + kPairs)] = {};
      for (int64_t t = 0; t < n; ++t) AddRay(frame, ray, lanes, n, t, first, last, sums);
      for (int64_t s = first; s < last; ++s)
        line[s] = sums[2 * (s - first)] + sums[2 * (s - first) + 1];
    }
  });
  return ffi::Error::Success();
}

ffi::Error ProjectAdjoint(ffi::ThreadPool pool, Buffer sinogram, Buffer trig, Result out) {
  const int64_t m = sinogram.dimensions()[0], n = sinogram.dimensions()[2];
  const int64_t angles = trig.dimensions()[0], w = n + 3, framed = w * w;
  const int64_t blocks = std::min(kBlocks, angles);
  std::vector<float> frames(2 * m * blocks * framed);
  jaxmedgen::ParallelFor(pool, m * blocks, [&](int64_t i) {
    float* frame = frames.data() + 2 * i * framed;
    for (int64_t a = i % blocks; a < angles; a += blocks) {
      const Rays ray(trig.typed_data()[2 * a], trig.typed_data()[2 * a + 1]);
      const float* values = sinogram.typed_data() + (i / blocks * angles + a) * n;
      float* target = frame + (ray.transposed ? framed : 0);
      for (int64_t first = 0; first < n; first += kTile)
        for (int64_t t = 0; t < n; ++t)
          SpreadRay(values, ray, n, t, first, std::min(first + kTile, n), target);
    }
  });
  jaxmedgen::ParallelFor(pool, m * n, [&](int64_t i) {
    const int64_t k = i / n, r = i % n;
    float* row = out->typed_data() + i * n;
    std::fill(row, row + n, 0.0f);
    for (int64_t block = 0; block < blocks; ++block) {
      const float* frame = frames.data() + 2 * (k * blocks + block) * framed;
      for (int64_t c = 0; c < n; ++c)
        row[c] += frame[(r + 1) * w + c + 1] + frame[framed + (c + 1) * w + r + 1];
    }
  });
  return ffi::Error::Success();
}

ffi::Error BackProject(ffi::ThreadPool pool, Buffer sinogram, Buffer trig, Result out) {
  const int64_t m = out->dimensions()[0], n = out->dimensions()[1];
  const int64_t angles = trig.dimensions()[0], bins = sinogram.dimensions()[2], w = bins + 3;
  std::vector<float> frames(m * angles * w);
  for (int64_t i = 0; i < m * angles; ++i)
    std::copy_n(sinogram.typed_data() + i * bins, bins, frames.data() + i * w + 1);
  const int64_t blocks = (n + kRows - 1) / kRows, stride = 2 * (n + kPairs);
  const float top = static_cast<float>(bins + 1);
  jaxmedgen::ParallelFor(pool, m * blocks, [&](int64_t i) {
    const int64_t k = i / blocks, first = i % blocks * kRows, last = std::min(first + kRows, n);
    const Lanes lanes;
    std::vector<float> sums(kRows * stride);
    for (int64_t a = 0; a < angles; ++a) {
      const float* line = frames.data() + (k * angles + a) * w;
      const float cosine = trig.typed_data()[2 * a], sine = trig.typed_data()[2 * a + 1];
      for (int64_t r = first; r < last; ++r) {
        float* row = sums.data() + (r - first) * stride;
        const float start = (n / 2 - r) * sine + (bins / 2 + 1);
        for (int64_t c = 0; c < n; c += kPairs) {
          const Vec u = lanes.sample + static_cast<float>(c - n / 2);
          const Vec t = Clamp(u * cosine + start, 0, top);
          const IntVec low = Truncate(t);
          Add(row + 2 * c, GatherPairs(line, low) * (lanes.bias + lanes.sign * Fraction(t, low)));
        }
      }
    }
    for (int64_t r = first; r < last; ++r)
      for (int64_t c = 0; c < n; ++c) {
        const float* pair = sums.data() + (r - first) * stride + 2 * c;
        out->typed_data()[(k * n + r) * n + c] = pair[0] + pair[1];
      }
  });
  return ffi::Error::Success();
}

ffi::Error BackProjectAdjoint(ffi::ThreadPool pool, Buffer image, Buffer trig, Result out) {
  const int64_t m = image.dimensions()[0], n = image.dimensions()[1];
  const int64_t angles = trig.dimensions()[0], bins = out->dimensions()[2], w = bins + 3;
  const float top = static_cast<float>(bins + 1);
  jaxmedgen::ParallelFor(pool, m * angles, [&](int64_t i) {
    const float* at = trig.typed_data() + 2 * (i % angles);
    const float* pixels = image.typed_data() + i / angles * n * n;
    std::vector<float> lines(kCopies * w);
    for (int64_t r = 0; r < n; ++r) {
      const float start = (n / 2 - r) * at[1] + bins / 2 + 1;
      for (int64_t c = 0; c < n; ++c) {
        const float t = Clamp(start + (c - n / 2) * at[0], 0, top);
        const int32_t low = static_cast<int32_t>(t);
        float* line = lines.data() + c % kCopies * w + low;
        const float upper = (t - low) * pixels[r * n + c];
        line[0] += pixels[r * n + c] - upper;
        line[1] += upper;
      }
    }
    for (int64_t s = 0; s < bins; ++s) {
      float sum = 0;
      for (int64_t copy = 0; copy < kCopies; ++copy) sum += lines[copy * w + s + 1];
      out->typed_data()[i * bins + s] = sum;
    }
  });
  return ffi::Error::Success();
}

}  // namespace

#define JAXMEDGEN_HANDLER(symbol, function)                        \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(symbol, function,                  \
                                ffi::Ffi::Bind()                   \
                                    .Ctx<ffi::ThreadPool>()        \
                                    .Arg<ffi::Buffer<ffi::F32>>()  \
                                    .Arg<ffi::Buffer<ffi::F32>>()  \
                                    .Ret<ffi::Buffer<ffi::F32>>())

JAXMEDGEN_HANDLER(RadonProject, Project);
JAXMEDGEN_HANDLER(RadonProjectAdjoint, ProjectAdjoint);
JAXMEDGEN_HANDLER(RadonBackProject, BackProject);
JAXMEDGEN_HANDLER(RadonBackProjectAdjoint, BackProjectAdjoint);
