// BatchNorm in training mode and ELU in one function, forward and backward, of images channels last: two passes over
// memory in each direction. For AVX-512 and 8, 16, 32 or 64 channels. benchmarks/training.py builds and times it.
#include <ATen/cpu/vec/vec.h>
#include <torch/extension.h>

#include <array>

using at::Tensor;
using V = at::vec::Vectorized<float>;
constexpr int L = V::size(), N = 4, W = N * L;  // numbers that are treated at once: W is a multiple of the channels
constexpr int64_t BLOCK = 4096;                 // groups of W whose sums are taken in float32
using Group = std::array<V, N>;

static Group of_channels(const std::vector<double>& values) {
  float wide[W];
  for (int k = 0; k < W; k++) wide[k] = values[k % values.size()];
  Group group;
  for (int i = 0; i < N; i++) group[i] = V::loadu(wide + i * L);
  return group;
}

// Adds two sums over all images and pixels, of what `each` gives for the numbers at an offset, to s and q.
template <class F>
static void sums(int64_t groups, std::vector<double>& s, std::vector<double>& q, F each) {
  for (int64_t start = 0; start < groups; start += BLOCK) {
    Group a, b;
    a.fill(V(0.f)), b.fill(V(0.f));
    for (int64_t g = start; g < std::min(groups, start + BLOCK); g++)
      for (int i = 0; i < N; i++) {
        auto [one, other, factor] = each(g * W + i * L, i);
        a[i] = a[i] + one, b[i] = at::vec::fmadd(other, factor, b[i]);
      }
    float fa[W], fb[W];
    for (int i = 0; i < N; i++) a[i].store(fa + i * L), b[i].store(fb + i * L);
    for (int k = 0; k < W; k++) s[k % s.size()] += fa[k], q[k % q.size()] += fb[k];
  }
}

std::vector<Tensor> forward(Tensor x, Tensor weight, Tensor bias, double eps) {
  const int64_t C = x.size(1), n = x.numel() / C, groups = x.numel() / W;
  TORCH_CHECK(W % C == 0 && x.numel() % W == 0, "not for this number of channels");
  Tensor y = at::empty_like(x), mean = at::empty_like(weight), scale = at::empty_like(weight);
  const float* px = x.const_data_ptr<float>();
  float* py = y.data_ptr<float>();
  std::vector<double> s(C), q(C), factor(C), shift(C);
  sums(groups, s, q, [&](int64_t o, int) { V v = V::loadu(px + o); return std::tuple(v, v, v); });
  for (int c = 0; c < C; c++) {
    const double m = s[c] / n, inverse = 1 / std::sqrt(q[c] / n - m * m + eps);
    mean.data_ptr<float>()[c] = m, scale.data_ptr<float>()[c] = inverse;
    factor[c] = weight.data_ptr<float>()[c] * inverse, shift[c] = bias.data_ptr<float>()[c] - m * factor[c];
  }
  const Group f = of_channels(factor), h = of_channels(shift);
  const V zero(0.f), one(1.f);
  for (int64_t g = 0; g < groups; g++)
    for (int i = 0; i < N; i++) {
      const V v = at::vec::fmadd(V::loadu(px + g * W + i * L), f[i], h[i]);
      V::blendv(at::vec::minimum(v, zero).exp_u20() - one, v, v > zero).store(py + g * W + i * L);
    }
  return {y, mean, scale};
}

std::vector<Tensor> backward(Tensor gradient, Tensor x, Tensor y, Tensor weight, Tensor mean, Tensor scale) {
  const int64_t C = x.size(1), n = x.numel() / C, groups = x.numel() / W;
  Tensor to_x = at::empty_like(x), to_weight = at::empty_like(weight), to_bias = at::empty_like(weight);
  const float *pg = gradient.const_data_ptr<float>(), *px = x.const_data_ptr<float>(), *py = y.const_data_ptr<float>();
  float* out = to_x.data_ptr<float>();
  const float* means = mean.const_data_ptr<float>();
  const Group m = of_channels(std::vector<double>(means, means + C));
  const V one(1.f);
  auto slope = [&](int64_t o) { return V::loadu(pg + o) * at::vec::minimum(V::loadu(py + o) + one, one); };
  std::vector<double> s(C), q(C), a(C), b(C), d(C);
  sums(groups, s, q, [&](int64_t o, int i) { V v = slope(o); return std::tuple(v, v, V::loadu(px + o) - m[i]); });
  for (int c = 0; c < C; c++) {
    const double inverse = scale.data_ptr<float>()[c], w = weight.data_ptr<float>()[c] * inverse;
    to_bias.data_ptr<float>()[c] = s[c], to_weight.data_ptr<float>()[c] = q[c] * inverse;
    a[c] = w, b[c] = -w * inverse * inverse * q[c] / n, d[c] = -w * s[c] / n;
  }
  const Group A = of_channels(a), B = of_channels(b), D = of_channels(d);
  for (int64_t g = 0; g < groups; g++)
    for (int i = 0; i < N; i++) {
      const int64_t o = g * W + i * L;
      at::vec::fmadd(slope(o), A[i], at::vec::fmadd(V::loadu(px + o) - m[i], B[i], D[i])).store(out + o);
    }
  return {to_x, to_weight, to_bias};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward), m.def("backward", &backward); }
