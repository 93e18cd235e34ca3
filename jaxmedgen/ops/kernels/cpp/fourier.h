// Discrete Fourier transforms of 16 pairs of real lines at a time, for any length.
#ifndef JAXMEDGEN_FOURIER_H_
#define JAXMEDGEN_FOURIER_H_

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace jaxmedgen {

constexpr int kLanes = 16;
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));

// Mixed-radix Stockham transform: no bit reversal, every step reads and writes whole vectors.
class Fourier {
 public:
  explicit Fourier(int64_t size) : size_(size) {
    int64_t left = size;
    for (int64_t radix : {4, 2, 3, 5}) {
      for (; left % radix == 0; left /= radix) radices_.push_back(radix);
    }
    for (int64_t radix = 7; left > 1; radix += 2) {
      for (; left % radix == 0; left /= radix) radices_.push_back(radix);
    }
    for (int64_t k = 0; k < size; ++k) {
      const double angle = -2 * M_PI * k / size;
      cosine_.push_back(static_cast<float>(std::cos(angle)));
      sine_.push_back(static_cast<float>(std::sin(angle)));
    }
  }

  int64_t size() const { return size_; }

  // Transforms re + i im; the result is left in the first pair of buffers, the second is scratch.
  void Transform(Lanes*& re, Lanes*& im, Lanes*& re2, Lanes*& im2) const {
    int64_t n = size_, stride = 1;
    for (int64_t radix : radices_) {
      switch (radix) {
        case 4: Step4(n, stride, re, im, re2, im2); break;
        case 2: Step2(n, stride, re, im, re2, im2); break;
        default: StepAny(radix, n, stride, re, im, re2, im2);
      }
      std::swap(re, re2);
      std::swap(im, im2);
      n /= radix;
      stride *= radix;
    }
  }

 private:
  void Step2(int64_t n, int64_t stride, const Lanes* __restrict re, const Lanes* __restrict im,
             Lanes* __restrict re2, Lanes* __restrict im2) const {
    const int64_t half = n / 2, jump = stride * half;
    for (int64_t p = 0; p < half; ++p) {
      const float c = cosine_[p * stride], s = sine_[p * stride];
      for (int64_t q = 0; q < stride; ++q) {
        const int64_t in = q + stride * p, out = q + stride * 2 * p;
        const Lanes dr = re[in] - re[in + jump], di = im[in] - im[in + jump];
        re2[out] = re[in] + re[in + jump];
        im2[out] = im[in] + im[in + jump];
        re2[out + stride] = dr * c - di * s;
        im2[out + stride] = dr * s + di * c;
      }
    }
  }

  void Step4(int64_t n, int64_t stride, const Lanes* __restrict re, const Lanes* __restrict im,
             Lanes* __restrict re2, Lanes* __restrict im2) const {
    const int64_t quarter = n / 4, jump = stride * quarter;
    for (int64_t p = 0; p < quarter; ++p) {
      const float c1 = cosine_[p * stride], s1 = sine_[p * stride];
      const float c2 = cosine_[2 * p * stride], s2 = sine_[2 * p * stride];
      const float c3 = cosine_[3 * p * stride], s3 = sine_[3 * p * stride];
      for (int64_t q = 0; q < stride; ++q) {
        const int64_t in = q + stride * p, out = q + stride * 4 * p;
        const Lanes ar = re[in] + re[in + 2 * jump], ai = im[in] + im[in + 2 * jump];
        const Lanes br = re[in] - re[in + 2 * jump], bi = im[in] - im[in + 2 * jump];
        const Lanes cr = re[in + jump] + re[in + 3 * jump], ci = im[in + jump] + im[in + 3 * jump];
        const Lanes dr = re[in + jump] - re[in + 3 * jump], di = im[in + jump] - im[in + 3 * jump];
        re2[out] = ar + cr;
        im2[out] = ai + ci;
        const Lanes er = br + di, ei = bi - dr;  // b - i d
        re2[out + stride] = er * c1 - ei * s1;
        im2[out + stride] = er * s1 + ei * c1;
        const Lanes fr = ar - cr, fi = ai - ci;
        re2[out + 2 * stride] = fr * c2 - fi * s2;
        im2[out + 2 * stride] = fr * s2 + fi * c2;
        const Lanes gr = br - di, gi = bi + dr;  // b + i d
        re2[out + 3 * stride] = gr * c3 - gi * s3;
        im2[out + 3 * stride] = gr * s3 + gi * c3;
      }
    }
  }

  void StepAny(int64_t radix, int64_t n, int64_t stride, const Lanes* __restrict re,
               const Lanes* __restrict im, Lanes* __restrict re2, Lanes* __restrict im2) const {
    const int64_t part = n / radix, jump = stride * part, turn = size_ / radix;
    for (int64_t p = 0; p < part; ++p) {
      for (int64_t j = 0; j < radix; ++j) {
        const int64_t twiddle = p * j * stride % size_;
        const float c = cosine_[twiddle], s = sine_[twiddle];
        for (int64_t q = 0; q < stride; ++q) {
          const int64_t in = q + stride * p, out = q + stride * (radix * p + j);
          Lanes sr = re[in], si = im[in];
          for (int64_t k = 1; k < radix; ++k) {
            const int64_t at = j * k % radix * turn;
            const Lanes xr = re[in + k * jump], xi = im[in + k * jump];
            sr += xr * cosine_[at] - xi * sine_[at];
            si += xr * sine_[at] + xi * cosine_[at];
          }
          re2[out] = sr * c - si * s;
          im2[out] = sr * s + si * c;
        }
      }
    }
  }

  int64_t size_;
  std::vector<int64_t> radices_;
  std::vector<float> cosine_, sine_;
};

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_FOURIER_H_
