// Micro-kernels of the kernel gradient: outer products of voxels, summed over rows.
#ifndef JAXMEDGEN_CONV_PRODUCTS_H_
#define JAXMEDGEN_CONV_PRODUCTS_H_

#include "conv_geometry.h"

namespace jaxmedgen {

// Sums over rows and voxels for M channels of x and N registers of channels of g.
struct Products {
  const float* const* x;  // packed rows
  const float* const* g;
  int64_t rows, voxels;
  int64_t g_step;  // floats from one voxel of g to the next
  float* sums;     // [M][N lanes]
};

template <int W, int M, int N>
void Multiply(const Products& p) {
  // Few sums would wait for one another: voxels then take turns with several sets of them.
  constexpr int kSets = M * N >= 8 ? 1 : M * N >= 4 ? 2 : 4;
  Vec sum[kSets][M][N] = {};
  Vec* const total = reinterpret_cast<Vec*>(p.sums);
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) sum[0][m][n] = total[m * N + n];
  for (int64_t row = 0; row < p.rows; ++row) {
    const float* x = p.x[row];
    const float* g = p.g[row];
    int64_t v = 0;
    for (; v + kSets <= p.voxels; v += kSets, x += kSets * W, g += kSets * p.g_step) {
#pragma GCC unroll 4
      for (int k = 0; k < kSets; ++k) {
        const Loose* lanes = reinterpret_cast<const Loose*>(g + k * p.g_step);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
          for (int n = 0; n < N; ++n) sum[k][m][n] += x[k * W + m] * lanes[n];
        }
      }
    }
    for (; v < p.voxels; ++v, x += W, g += p.g_step) {
      const Loose* lanes = reinterpret_cast<const Loose*>(g);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) sum[0][m][n] += x[m] * lanes[n];
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) {
      Vec all = sum[0][m][n];
#pragma GCC unroll 4
      for (int k = 1; k < kSets; ++k) all += sum[k][m][n];
      total[m * N + n] = all;
    }
  }
}

constexpr int kTall = kSums >= 24 ? 16 : 8;  // most channels of x in one call

inline void (*ChooseProducts(int64_t registers, int64_t channels))(const Products&) {
  if (registers == 2)
    return channels > kTall / 4 ? Multiply<kBlock, kTall / 2, 2> : Multiply<kBlock, kTall / 4, 2>;
  if (channels > kTall / 2) return Multiply<kBlock, kTall, 1>;
  return channels > kTall / 4 ? Multiply<kBlock, kTall / 2, 1> : Multiply<kBlock, kTall / 4, 1>;
}

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_CONV_PRODUCTS_H_
