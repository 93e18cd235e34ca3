// Multiplies the spectrum of real fields by a real, even symbol, in three passes over memory.
//
// Fields are [m, depth, height, width]. Each axis is transformed to real coefficients: position k
// holds Re X_k and position N - k holds Im X_k, k <= N / 2. As the symbol is even in the frequency
// of every axis it multiplies them by place. Two lines of voxels share one complex transform, and
// 16 such pairs go through it at once.

#include <cstring>

#include "fourier.h"
#include "parallel.h"

namespace {

namespace ffi = xla::ffi;
using jaxmedgen::Fourier;
using jaxmedgen::kLanes;
using jaxmedgen::Lanes;

// Thirty-two lines of one length, in order or as coefficients.
class Bundle {
 public:
  explicit Bundle(const Fourier& transform)
      : transform_(transform), store_(4 * transform.size() + 1) {
    // Vectors must be aligned, which std::vector<Lanes> need not ensure before C++17's new.
    const int64_t n = transform.size();
    for (int i = 0; i < 4; ++i) at_[i] = store_.data() + i * n;
  }

  Lanes* a() { return at_[0]; }
  Lanes* b() { return at_[1]; }

  // Lines to coefficients, in place.
  void Forward() {
    transform_.Transform(at_[0], at_[1], at_[2], at_[3]);
    Lanes *re = at_[0], *im = at_[1];
    const int64_t n = transform_.size();
    for (int64_t k = 1, l = n - 1; k < l; ++k, --l) {
      const Lanes zr = re[k], zi = im[k], yr = re[l], yi = im[l];
      re[k] = 0.5f * (zr + yr);
      re[l] = 0.5f * (zi - yi);
      im[k] = 0.5f * (zi + yi);
      im[l] = 0.5f * (yr - zr);
    }
  }

  // Coefficients to lines times their length, in place.
  void Backward() {
    Lanes *re = at_[0], *im = at_[1];
    const int64_t n = transform_.size();
    for (int64_t k = 1, l = n - 1; k < l; ++k, --l) {
      const Lanes ar = re[k], ai = re[l], br = im[k], bi = im[l];
      re[k] = ar - bi;
      im[k] = ai + br;
      re[l] = ar + bi;
      im[l] = br - ai;
    }
    // The inverse transform is the transform with real and imaginary part exchanged.
    transform_.Transform(at_[1], at_[0], at_[3], at_[2]);
  }

 private:
  const Fourier& transform_;
  std::vector<Lanes> store_;
  Lanes* at_[4];
};

// Lanes along consecutive columns: line c is x[k * stride + c]. `count` of the 32 exist.
inline void LoadColumns(const float* x, int64_t stride, int64_t count, int64_t n, Bundle& lines) {
  Lanes *a = lines.a(), *b = lines.b();
  if (count == 2 * kLanes) {
    for (int64_t k = 0; k < n; ++k) {
      std::memcpy(a + k, x + k * stride, sizeof(Lanes));
      std::memcpy(b + k, x + k * stride + kLanes, sizeof(Lanes));
    }
    return;
  }
  for (int64_t k = 0; k < n; ++k) {
    float both[2 * kLanes] = {0};
    std::memcpy(both, x + k * stride, count * sizeof(float));
    std::memcpy(a + k, both, sizeof(Lanes));
    std::memcpy(b + k, both + kLanes, sizeof(Lanes));
  }
}

inline void StoreColumns(float* x, int64_t stride, int64_t count, int64_t n, Bundle& lines) {
  const Lanes *a = lines.a(), *b = lines.b();
  if (count == 2 * kLanes) {
    for (int64_t k = 0; k < n; ++k) {
      std::memcpy(x + k * stride, a + k, sizeof(Lanes));
      std::memcpy(x + k * stride + kLanes, b + k, sizeof(Lanes));
    }
    return;
  }
  for (int64_t k = 0; k < n; ++k) {
    float both[2 * kLanes];
    std::memcpy(both, a + k, sizeof(Lanes));
    std::memcpy(both + kLanes, b + k, sizeof(Lanes));
    std::memcpy(x + k * stride, both, count * sizeof(float));
  }
}

// Lanes along rows: line r is x[r * n + k].
inline void LoadRows(const float* x, int64_t count, int64_t n, Bundle& lines) {
  float* at[2] = {reinterpret_cast<float*>(lines.a()), reinterpret_cast<float*>(lines.b())};
  for (int64_t r = 0; r < 2 * kLanes; ++r) {
    float* to = at[r / kLanes] + r % kLanes;
    if (r < count) {
      for (int64_t k = 0; k < n; ++k) to[k * kLanes] = x[r * n + k];
    } else {
      for (int64_t k = 0; k < n; ++k) to[k * kLanes] = 0;
    }
  }
}

inline void StoreRows(float* x, int64_t count, int64_t n, Bundle& lines) {
  const float* at[2] = {reinterpret_cast<float*>(lines.a()), reinterpret_cast<float*>(lines.b())};
  for (int64_t r = 0; r < count; ++r) {
    const float* from = at[r / kLanes] + r % kLanes;
    for (int64_t k = 0; k < n; ++k) x[r * n + k] = from[k * kLanes];
  }
}

ffi::Error Filter(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> symbol,
                  ffi::Result<ffi::Buffer<ffi::F32>> out) {
  const auto shape = x.dimensions();
  const int64_t count = shape[0], depth = shape[1], height = shape[2], width = shape[3];
  const int64_t plane = height * width, volume = depth * plane, step = 2 * kLanes;
  const Fourier along_depth(depth), along_height(height), along_width(width);
  const float scale = 1.0f / static_cast<float>(volume);
  const float* from = x.typed_data();
  float* to = out->typed_data();
  jaxmedgen::ParallelFor(pool, count * depth, [&](int64_t i) {
    Bundle rows(along_width), columns(along_height);
    for (int64_t r = 0; r < height; r += step) {
      const int64_t lines = std::min(step, height - r);
      LoadRows(from + i * plane + r * width, lines, width, rows);
      rows.Forward();
      StoreRows(to + i * plane + r * width, lines, width, rows);
    }
    for (int64_t c = 0; c < width; c += step) {
      const int64_t lines = std::min(step, width - c);
      LoadColumns(to + i * plane + c, width, lines, height, columns);
      columns.Forward();
      StoreColumns(to + i * plane + c, width, lines, height, columns);
    }
  });
  const int64_t blocks = (plane + step - 1) / step;
  jaxmedgen::ParallelFor(pool, count * height, [&](int64_t i) {
    Bundle lines(along_depth), factors(along_depth);
    const int64_t field = i / height * volume;
    // Whole blocks of 32 columns, shared out over as many tasks as there are rows.
    const int64_t first = i % height * blocks / height, last = (i % height + 1) * blocks / height;
    for (int64_t block = first; block < last; ++block) {
      const int64_t c = block * step, some = std::min(step, plane - c);
      LoadColumns(to + field + c, plane, some, depth, lines);
      LoadColumns(symbol.typed_data() + c, plane, some, depth, factors);
      lines.Forward();
      for (int64_t k = 0; k < depth; ++k) {
        lines.a()[k] *= factors.a()[k] * scale;
        lines.b()[k] *= factors.b()[k] * scale;
      }
      lines.Backward();
      StoreColumns(to + field + c, plane, some, depth, lines);
    }
  });
  jaxmedgen::ParallelFor(pool, count * depth, [&](int64_t i) {
    Bundle rows(along_width), columns(along_height);
    for (int64_t c = 0; c < width; c += step) {
      const int64_t lines = std::min(step, width - c);
      LoadColumns(to + i * plane + c, width, lines, height, columns);
      columns.Backward();
      StoreColumns(to + i * plane + c, width, lines, height, columns);
    }
    for (int64_t r = 0; r < height; r += step) {
      const int64_t lines = std::min(step, height - r);
      LoadRows(to + i * plane + r * width, lines, width, rows);
      rows.Backward();
      StoreRows(to + i * plane + r * width, lines, width, rows);
    }
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(SpectralFilter, Filter,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
