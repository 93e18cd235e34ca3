// ad and ad* of velocity fields by periodic central differences, in one pass over memory.
//
// Fields are [b, n, *space] with n = 2 or 3 axes of space, components first.

#include <cstdint>

#include "parallel.h"

namespace {

namespace ffi = xla::ffi;

// Offsets of the neighbours of a row of voxels along each axis; those along the last are +-1 but at
// its ends.
template <int kAxes>
struct Neighbours {
  int64_t up[kAxes], down[kAxes];
};

template <int kAxes>
inline void AdStarAt(const float* const* v, const float* const* m, float* const* out, int64_t x,
                     const Neighbours<kAxes>& at) {
  for (int i = 0; i < kAxes; ++i) {
    float total = 0;
    for (int j = 0; j < kAxes; ++j) {
      total += (v[j][x + at.up[i]] - v[j][x + at.down[i]]) * m[j][x];
      total += v[j][x + at.up[j]] * m[i][x + at.up[j]];
      total -= v[j][x + at.down[j]] * m[i][x + at.down[j]];
    }
    out[i][x] = 0.5f * total;
  }
}

template <int kAxes>
inline void AdAt(const float* const* v, const float* const* w, float* const* out, int64_t x,
                 const Neighbours<kAxes>& at) {
  for (int i = 0; i < kAxes; ++i) {
    float total = 0;
    for (int j = 0; j < kAxes; ++j) {
      total += (v[i][x + at.up[j]] - v[i][x + at.down[j]]) * w[j][x];
      total -= (w[i][x + at.up[j]] - w[i][x + at.down[j]]) * v[j][x];
    }
    out[i][x] = 0.5f * total;
  }
}

template <int kAxes, bool kStar>
inline void Row(const float* const* v, const float* const* m, float* const* __restrict out,
                int64_t size, Neighbours<kAxes> at) {
  auto voxel = [&](int64_t x, const Neighbours<kAxes>& around) {
    if constexpr (kStar) {
      AdStarAt<kAxes>(v, m, out, x, around);
    } else {
      AdAt<kAxes>(v, m, out, x, around);
    }
  };
  constexpr int kLast = kAxes - 1;
  at.up[kLast] = size > 1 ? 1 : 0;
  at.down[kLast] = size - 1;
  voxel(0, at);
  at.up[kLast] = 1;
  at.down[kLast] = -1;
  // Pointers by value: the compiler must know that writing the result does not move them.
  const float *v0 = v[0], *v1 = v[1], *v2 = v[kLast], *m0 = m[0], *m1 = m[1], *m2 = m[kLast];
  float *__restrict o0 = out[0], *__restrict o1 = out[1], *__restrict o2 = out[kLast];
#pragma GCC ivdep
  for (int64_t x = 1; x < size - 1; ++x) {
    const float* const vs[3] = {v0, v1, v2};
    const float* const ms[3] = {m0, m1, m2};
    float* const os[3] = {o0, o1, o2};
    if constexpr (kStar) {
      AdStarAt<kAxes>(vs, ms, os, x, at);
    } else {
      AdAt<kAxes>(vs, ms, os, x, at);
    }
  }
  if (size == 1) return;
  at.up[kLast] = 1 - size;
  at.down[kLast] = -1;
  voxel(size - 1, at);
}

template <int kAxes, bool kStar>
ffi::Error Apply(ffi::ThreadPool& pool, ffi::Buffer<ffi::F32>& v, ffi::Buffer<ffi::F32>& m,
                 ffi::Result<ffi::Buffer<ffi::F32>>& out) {
  const auto shape = v.dimensions();
  const int64_t batch = shape[0], outer = shape[2], width = shape[kAxes + 1];
  const int64_t rows = kAxes == 3 ? shape[3] : 1;
  const int64_t slab = rows * width, volume = outer * slab;
  // A few planes at a time: neighbours stay in the cache and the loop's overhead is small.
  const int64_t chunk = kAxes == 3 ? 1 : 16, chunks = (outer + chunk - 1) / chunk;
  jaxmedgen::ParallelFor(pool, batch * chunks, [&](int64_t task) {
    const int64_t b = task / chunks, first = task % chunks * chunk;
    const int64_t last = std::min(outer, first + chunk);
    for (int64_t z = first; z < last; ++z) {
      for (int64_t y = 0; y < rows; ++y) {
        Neighbours<kAxes> at;
        at.up[0] = z + 1 < outer ? slab : slab - volume;
        at.down[0] = z > 0 ? -slab : volume - slab;
        if constexpr (kAxes == 3) {
          at.up[1] = y + 1 < rows ? width : width - slab;
          at.down[1] = y > 0 ? -width : slab - width;
        }
        const int64_t start = b * kAxes * volume + z * slab + y * width;
        const float *vs[kAxes], *ms[kAxes];
        float* os[kAxes];
        for (int i = 0; i < kAxes; ++i) {
          vs[i] = v.typed_data() + start + i * volume;
          ms[i] = m.typed_data() + start + i * volume;
          os[i] = out->typed_data() + start + i * volume;
        }
        Row<kAxes, kStar>(vs, ms, os, width, at);
      }
    }
  });
  return ffi::Error::Success();
}

template <bool kStar>
ffi::Error Dispatch(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> v, ffi::Buffer<ffi::F32> m,
                    ffi::Result<ffi::Buffer<ffi::F32>> out) {
  if (v.dimensions().size() == 5) return Apply<3, kStar>(pool, v, m, out);
  return Apply<2, kStar>(pool, v, m, out);
}

}  // namespace

#define JAXMEDGEN_HANDLER(symbol, function)                       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(symbol, function,                 \
                                ffi::Ffi::Bind()                  \
                                    .Ctx<ffi::ThreadPool>()       \
                                    .Arg<ffi::Buffer<ffi::F32>>() \
                                    .Arg<ffi::Buffer<ffi::F32>>() \
                                    .Ret<ffi::Buffer<ffi::F32>>())

JAXMEDGEN_HANDLER(LieAlgebraAd, Dispatch<false>);
JAXMEDGEN_HANDLER(LieAlgebraAdStar, Dispatch<true>);
