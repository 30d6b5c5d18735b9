// A test's operators on one device. Tensors are filled on the host, between guard bands and with NaN bytes wherever nothing was
// set, go to the device when they are first used there, and come back when they are read.
#ifndef JEVONS_TESTS_SUPPORT_DEVICE_CASE_H_
#define JEVONS_TESTS_SUPPORT_DEVICE_CASE_H_

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/philox.h"
#include "kernels/ops/context.h"
#include "kernels/tensor/device.h"

namespace jevons {

// How the rows of a case's tensors lie: at addresses that allow no wide access, or at such that do.
enum class Addresses { kOdd, kAligned };

class DeviceCase {
 public:
  DeviceCase(Device device, Addresses layout)
      : device_(device),
        layout_(layout),
        stream_(device),
        memory_("test", int64_t{64} << 20, device),
        scratch_("scratch", int64_t{2} << 30, device) {}  // addresses; what attention takes of them at most
  ~DeviceCase() { Synchronize(stream_.get()); }

  // A matrix of the case.
  class Matrix {
   public:
    Matrix(DeviceCase& owner, DType dtype, int64_t rows, int64_t cols, int64_t gap)
        : owner_(owner), host_(Tensor(nullptr, dtype, {rows, cols})), size_(SizeOf(dtype)) {
      host_.pitch = cols + gap;
      bytes_.assign(static_cast<size_t>((rows * host_.pitch + 2 * kGuard) * size_), 0xFF);
      host_.data = bytes_.data() + kGuard * size_;
      const auto n = static_cast<int64_t>(bytes_.size());
      device_bytes_ = owner.memory_.Allocate("matrix", DType::kU8, {n}).as<uint8_t>();
    }
    Matrix(const Matrix&) = delete;
    Matrix& operator=(const Matrix&) = delete;

    // Normal numbers, a function of the seed.
    Matrix& Fill(uint64_t seed, float scale = 1, float offset = 0) {
      for (int64_t i = 0; i < host_.size(); ++i)
        Set(i / host_.cols(), i % host_.cols(),
            offset + scale * static_cast<float>(RandomNormal(seed, 0, static_cast<uint64_t>(i))));
      return *this;
    }
    void Set(int64_t r, int64_t c, double value) {
      switch (host_.dtype) {
        case DType::kF32: host_.row<float>(r)[c] = static_cast<float>(value); break;
        case DType::kBF16: host_.row<bf16>(r)[c] = bf16(static_cast<float>(value)); break;
        case DType::kI32: host_.row<int32_t>(r)[c] = static_cast<int32_t>(value); break;
        case DType::kI64: host_.row<int64_t>(r)[c] = static_cast<int64_t>(value); break;
        case DType::kU8: host_.row<uint8_t>(r)[c] = static_cast<uint8_t>(value); break;
      }
    }
    double Get(int64_t r, int64_t c) const {
      switch (host_.dtype) {
        case DType::kF32: return double{host_.row<float>(r)[c]};
        case DType::kBF16: return double{static_cast<float>(host_.row<bf16>(r)[c])};
        case DType::kI32: return host_.row<int32_t>(r)[c];
        case DType::kI64: return static_cast<double>(host_.row<int64_t>(r)[c]);
        case DType::kU8: return host_.row<uint8_t>(r)[c];
      }
      return 0;
    }
    int64_t rows() const { return host_.rows(); }
    int64_t cols() const { return host_.cols(); }

    // The matrix on the device.
    Tensor tensor() {
      if (!sent_) Move(bytes_.data(), device_bytes_);
      sent_ = true;
      Tensor t = host_;
      t.data = device_bytes_ + kGuard * size_;
      return t;
    }
    // Brings the device's content to the host; nothing beside the elements may have changed.
    void Fetch() {
      Move(device_bytes_, bytes_.data());
      Synchronize(owner_.stream_.get());
      EXPECT_TRUE(Intact()) << "memory beside " << host_.ToString() << " was written";
    }

   private:
    static constexpr int64_t kGuard = 64;  // elements
    void Move(const void* from, void* to) const {
      CopyBytes(owner_.stream_.get(), from, to, static_cast<int64_t>(bytes_.size()));
    }
    bool Intact() const {
      const auto untouched = [&](int64_t begin, int64_t end) {  // elements
        for (int64_t i = begin * size_; i < end * size_; ++i)
          if (bytes_[static_cast<size_t>(i)] != 0xFF) return false;
        return true;
      };
      const int64_t last = host_.rows() * host_.pitch;
      bool intact = untouched(0, kGuard) && untouched(kGuard + last, last + 2 * kGuard);
      for (int64_t r = 0; r < host_.rows(); ++r)
        intact = intact && untouched(kGuard + r * host_.pitch + host_.cols(), kGuard + (r + 1) * host_.pitch);
      return intact;
    }

    DeviceCase& owner_;
    Tensor host_;
    int64_t size_;
    std::vector<uint8_t> bytes_;
    uint8_t* device_bytes_;
    bool sent_ = false;
  };

  // rows x cols; the layout decides how far rows lie apart.
  Matrix& Make(DType dtype, int64_t rows, int64_t cols) {
    const int64_t gap = layout_ == Addresses::kOdd ? 3 : (16 - cols % 16) % 16 + 16;
    return matrices_.emplace_back(*this, dtype, rows, cols, gap);
  }
  // n contiguous elements.
  Matrix& MakeVector(DType dtype, int64_t n) { return matrices_.emplace_back(*this, dtype, 1, n, 0); }
  Matrix& MakeContiguous(DType dtype, int64_t rows, int64_t cols) { return matrices_.emplace_back(*this, dtype, rows, cols, 0); }
  template <typename T>
  Matrix& MakeVector(DType dtype, const std::vector<T>& values) {
    Matrix& vector = MakeVector(dtype, static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) vector.Set(0, static_cast<int64_t>(i), static_cast<double>(values[i]));
    return vector;
  }

  OpContext ctx() { return {.stream = stream_.get(), .scratch = &scratch_}; }

  // What the case is compared by.
  struct Output {
    std::string name;
    std::vector<double> values;
  };
  void Show(const std::string& name, Matrix& matrix) {
    matrix.Fetch();
    Output output{name, {}};
    for (int64_t r = 0; r < matrix.rows(); ++r)
      for (int64_t c = 0; c < matrix.cols(); ++c) output.values.push_back(matrix.Get(r, c));
    outputs_.push_back(std::move(output));
  }
  void Show(const std::string& name, double value) { outputs_.push_back({name, {value}}); }
  const std::vector<Output>& outputs() const { return outputs_; }

 private:
  Device device_;
  Addresses layout_;
  OwnedStream stream_;
  Arena memory_, scratch_;
  std::deque<Matrix> matrices_;
  std::vector<Output> outputs_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_DEVICE_CASE_H_
