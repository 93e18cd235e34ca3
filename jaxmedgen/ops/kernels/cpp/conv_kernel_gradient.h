// Gradient of a convolution in its kernel: products of shifted inputs with the output's gradient.
#ifndef JAXMEDGEN_CONV_KERNEL_GRADIENT_H_
#define JAXMEDGEN_CONV_KERNEL_GRADIENT_H_

#include "conv_products.h"
#include "parallel.h"

namespace jaxmedgen {

// dw[t][c][o] = sum over outputs i of x[stride i + dilation t - pad][c] g[i][o].
struct KernelGradient {
  int64_t batch, in_channels, out_channels;
  Axis axis[3];
};

// What is packed and how sums are laid out. Few channels of g leave lanes empty, which earlier
// voxels of g then fill; they belong to later taps. Few channels of x are joined with those of the
// other taps of the last axis.
struct GradientPlan {
  int64_t merged = 1;                // voxels of g side by side
  std::vector<int64_t> offset, tap;  // [shift], [shift][merged] or -1
  bool patches;                      // x packed as [voxel][shift][channel]
  bool direct;                       // g needs no packing
  int64_t voxels;                    // of a row of g
  int64_t shifts, channels, tall;    // of packed x; channels rounded up
  int64_t used, lanes, groups;       // of g: channels, rounded up, in pairs of registers
  int64_t pairs, panel, set;         // taps of the first axes; rows and floats of sums
  PackedRow row;                     // of x

  explicit GradientPlan(const KernelGradient& p) : row(1, 1, kBlock) {
    const Axis& a = p.axis[2];
    if (a.dilation == 1 && p.out_channels < kLanes)
      merged = std::min(kLanes / p.out_channels, CeilDiv(a.taps, a.stride));
    for (int64_t t = 0; t < a.taps; ++t) {
      if (merged > 1 && t % (merged * a.stride) >= a.stride) continue;
      offset.push_back(t * a.dilation - a.pad);
      for (int64_t j = 0; j < merged; ++j) {
        const int64_t later = t + j * a.stride;
        tap.push_back(later < a.taps ? later : -1);
      }
    }
    voxels = a.out + merged - 1;
    shifts = offset.size(), channels = p.in_channels;
    patches = shifts > 1 && shifts * channels <= kBlock;
    if (patches) {
      channels *= shifts, shifts = 1;
      row = PackedRow(1, voxels, kBlock);
    } else {
      const int64_t reach = (offset.back() - offset.front()) / a.stride;
      row = PackedRow(a.stride, voxels + reach + 1, std::max(channels, 2L));
      row.channels = channels;
    }
    tall = CeilDiv(channels, kBlock) * kBlock;
    used = merged * p.out_channels;
    lanes = CeilDiv(used, kLanes) * kLanes;
    groups = CeilDiv(lanes, 2 * kLanes);
    direct = merged == 1 && used == lanes;
    pairs = p.axis[0].taps * p.axis[1].taps;
    panel = shifts * tall;
    set = pairs * panel * lanes;
  }

  int64_t Registers(int64_t group) const {
    return std::min<int64_t>(2, lanes / kLanes - 2 * group);
  }
  // Sums are [pair][group][shift][channel][lanes of the group].
  int64_t Place(int64_t pair, int64_t group) const {
    return (pair * lanes + group * 2 * kLanes) * panel;
  }
  int64_t g_floats() const { return direct ? 0 : voxels * lanes; }

  void PackX(const KernelGradient& p, const float* from, float* to) const {
    const Axis& a = p.axis[2];
    if (!patches) return row.Pack(from, a.in, p.in_channels, offset.front(), to);
    for (int64_t v = 0; v < voxels; ++v, to += kBlock) {
      int64_t cell = 0;
      for (int64_t shift : offset) {
        const int64_t at = v * a.stride + shift;
        for (int64_t c = 0; c < p.in_channels; ++c)
          to[cell++] = at < 0 || at >= a.in ? 0 : from[at * p.in_channels + c];
      }
      while (cell < kBlock) to[cell++] = 0;
    }
  }

  void PackG(const KernelGradient& p, const float* from, float* to) const {
    for (int64_t v = 0; v < voxels; ++v, to += lanes) {
      std::fill(to, to + lanes, 0.0f);
      for (int64_t j = std::max<int64_t>(0, v - p.axis[2].out + 1); j < merged && j <= v; ++j)
        std::copy_n(from + (v - j) * p.out_channels, p.out_channels, to + j * p.out_channels);
    }
  }

  // Adds the products of pairs of rows to the sums of a group.
  void Add(const std::vector<const float*>& x, const std::vector<const float*>& g, int64_t group,
           float* sums) const {
    const int64_t width = Registers(group) * kLanes, step = width == kLanes ? kTall : kTall / 2;
    // As many rows as stay in the first-level cache over all shifts and channels.
    const int64_t together =
        std::max<int64_t>(1, 24 * 1024 / (4 * voxels * (kBlock + width)));
    const int64_t count = x.size();
    std::vector<const float*> x_part(together), g_part(together);
    for (int64_t first = 0; first < count; first += together) {
      const int64_t rows = std::min(together, count - first);
      for (int64_t r = 0; r < rows; ++r) g_part[r] = g[first + r] + group * 2 * kLanes;
      for (int64_t c = 0; c < channels; c += step) {
        for (int64_t shift = 0; shift < shifts; ++shift) {
          const int64_t inner = c / kBlock * row.block_floats() + c % kBlock +
                                (patches ? 0 : row.At(offset[shift] - offset[0]));
          for (int64_t r = 0; r < rows; ++r) x_part[r] = x[first + r] + inner;
          ChooseProducts(width / kLanes, channels - c)(
              {x_part.data(), g_part.data(), rows, voxels, direct ? used : lanes,
               sums + (shift * tall + c) * width});
        }
      }
    }
  }

  // Sums of the sets, from their layout to the kernel's.
  void Collect(const KernelGradient& p, int64_t pair, int64_t sets, bool swapped, float* sums,
               float* dw) const {
    const int64_t width_taps = p.axis[2].taps, taps = pairs * width_taps;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t width = Registers(group) * kLanes, lane0 = group * 2 * kLanes;
      float* const first = sums + Place(pair, group);
      for (int64_t other = 1; other < sets; ++other)
        for (int64_t i = 0; i < panel * width; ++i) first[i] += first[other * set + i];
      for (int64_t s = 0; s < static_cast<int64_t>(offset.size()); ++s) {
        for (int64_t c = 0; c < p.in_channels; ++c) {
          const float* from = first + (s * (patches ? p.in_channels : tall) + c) * width;
          const int64_t end = std::min(lane0 + width, used);
          int64_t j = lane0 / p.out_channels, o = lane0 % p.out_channels;
          for (int64_t lane = lane0, n; lane < end; lane += n, from += n, ++j, o = 0) {
            n = std::min(p.out_channels - o, end - lane);
            if (tap[s * merged + j] < 0) continue;
            const int64_t t = pair * width_taps + tap[s * merged + j];
            if (!swapped) {
              std::copy_n(from, n, dw + (t * p.in_channels + c) * p.out_channels + o);
              continue;
            }
            // Exchanged roles: the taps count from the other end.
            float* to = dw + ((taps - 1 - t) * p.out_channels + o) * p.in_channels + c;
            for (int64_t i = 0; i < n; ++i) to[i * p.in_channels] = from[i];
          }
        }
      }
    }
  }
};

inline void ComputeKernelGradient(xla::ffi::ThreadPool& pool, const KernelGradient& p,
                                  const float* x, const float* g, float* dw, bool swapped) {
  const Axis &deep = p.axis[0], &high = p.axis[1], &wide = p.axis[2];
  const GradientPlan plan(p);
  const int64_t threads = std::max<int64_t>(1, pool.num_threads());
  const int64_t x_row = wide.in * p.in_channels, g_row = wide.out * p.out_channels;
  const int64_t x_rows = p.batch * deep.in * high.in, g_rows = p.batch * deep.out * high.out;
  static thread_local Scratch shared;

  if (2 * plan.set > x_rows * x_row + g_rows * g_row) {
    // More sums than voxels: threads share the sums.
    float* const sums = shared.Get(plan.set + x_rows * plan.row.floats() +
                                   g_rows * plan.g_floats() + 16);
    float* const x_packed = sums + plan.set;
    float* const g_packed = x_packed + x_rows * plan.row.floats();
    ParallelFor(pool, x_rows, [&](int64_t r) {
      plan.PackX(p, x + r * x_row, x_packed + r * plan.row.floats());
    });
    if (!plan.direct)
      ParallelFor(pool, g_rows, [&](int64_t r) {
        plan.PackG(p, g + r * g_row, g_packed + r * plan.g_floats());
      });
    ParallelFor(pool, plan.pairs * plan.groups, [&](int64_t task) {
      const int64_t pair = task % plan.pairs, group = task / plan.pairs;
      std::vector<const float*> x_list, g_list;
      for (int64_t r = 0, d, h; r < g_rows; ++r) {
        if (!deep.Meets(r / high.out % deep.out, pair / high.taps, &d)) continue;
        if (!high.Meets(r % high.out, pair % high.taps, &h)) continue;
        const int64_t at = (r / high.out / deep.out * deep.in + d) * high.in + h;
        x_list.push_back(x_packed + at * plan.row.floats());
        g_list.push_back(plan.direct ? g + r * g_row : g_packed + r * plan.g_floats());
      }
      float* const own = sums + plan.Place(pair, group);
      std::fill_n(own, plan.panel * plan.Registers(group) * kLanes, 0.0f);
      plan.Add(x_list, g_list, group, own);
    });
    ParallelFor(pool, plan.pairs,
                [&](int64_t pair) { plan.Collect(p, pair, 1, swapped, sums, dw); });
    return;
  }

  // More voxels than sums: each thread has sums of its own and takes a share of the volumes.
  const auto tiles = CutTiles(p.batch, deep, high, plan.row.floats() + plan.g_floats(), 1, threads,
                              4.0 / (plan.pairs * plan.shifts * plan.groups));
  const int64_t sets =
      std::min<int64_t>(tiles.size(), threads * (threads > 1 && plan.set < 65536 ? 2 : 1));
  float* const sums = shared.Get(sets * plan.set);
  ParallelFor(pool, sets, [&](int64_t number) {
    float* const own = sums + number * plan.set;
    std::fill_n(own, plan.set, 0.0f);
    static thread_local Scratch local;
    std::vector<const float*> x_list, g_list;
    const int64_t count = tiles.size();
    for (int64_t i = count * number / sets; i < count * (number + 1) / sets; ++i) {
      const Tile& tile = tiles[i];
      const auto [plane0, plane1] = deep.Range(tile.plane, tile.plane + tile.planes);
      const auto [row0, row1] = high.Range(tile.row, tile.row + tile.rows);
      const int64_t packed_rows = (plane1 - plane0) * (row1 - row0);
      float* const x_packed = local.Get(packed_rows * plan.row.floats() +
                                        tile.planes * tile.rows * plan.g_floats() + 16);
      float* const g_packed = x_packed + packed_rows * plan.row.floats();
      for (int64_t r = 0; r < packed_rows; ++r) {
        const int64_t d = plane0 + r / (row1 - row0), h = row0 + r % (row1 - row0);
        plan.PackX(p, x + ((tile.batch * deep.in + d) * high.in + h) * x_row,
                   x_packed + r * plan.row.floats());
      }
      auto g_at = [&](int64_t r) {
        const int64_t d = tile.plane + r / tile.rows, h = tile.row + r % tile.rows;
        return g + ((tile.batch * deep.out + d) * high.out + h) * g_row;
      };
      if (!plan.direct)
        for (int64_t r = 0; r < tile.planes * tile.rows; ++r)
          plan.PackG(p, g_at(r), g_packed + r * plan.g_floats());
      for (int64_t pair = 0; pair < plan.pairs; ++pair) {
        x_list.clear(), g_list.clear();
        for (int64_t r = 0, d, h; r < tile.planes * tile.rows; ++r) {
          if (!deep.Meets(tile.plane + r / tile.rows, pair / high.taps, &d)) continue;
          if (!high.Meets(tile.row + r % tile.rows, pair % high.taps, &h)) continue;
          const int64_t at = (d - plane0) * (row1 - row0) + h - row0;
          x_list.push_back(x_packed + at * plan.row.floats());
          g_list.push_back(plan.direct ? g_at(r) : g_packed + r * plan.g_floats());
        }
        for (int64_t group = 0; group < plan.groups; ++group)
          plan.Add(x_list, g_list, group, own + plan.Place(pair, group));
      }
    }
  });
  ParallelFor(pool, plan.pairs,
              [&](int64_t pair) { plan.Collect(p, pair, sets, swapped, sums, dw); });
}

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_CONV_KERNEL_GRADIENT_H_
