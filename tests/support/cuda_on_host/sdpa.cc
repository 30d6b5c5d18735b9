// cuDNN's part on the host: the graphs that kernels/cuda/attention_graph.h describes, computed by their definition from the addresses
// and offsets that the library would get.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "kernels/cuda/attention_graph.h"
#include "kernels/tensor/dtype.h"
#include "tests/support/cuda_on_host/device_memory.h"

struct cudnnContext {
  int device;
};

namespace cuda_on_host {
namespace {

std::vector<cudnnContext*>& Handles() {
  static std::vector<cudnnContext*> handles;
  return handles;
}

}  // namespace

int& CudnnVersion() {
  static int version = 91900;
  return version;
}
int CudnnHandles() { return static_cast<int>(Handles().size()); }
int DeviceOfLastHandle() { return Handles().back()->device; }

}  // namespace cuda_on_host

namespace jevons::cuda {
namespace {

void Demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "cuDNN on the host: %s\n", what);
  std::abort();
}

using Addresses = std::unordered_map<int64_t, void*>;

// One sequence of the batch and one head: matrices of its own rows.
class Head {
 public:
  Head(const GraphShape& shape, std::span<const GraphOperand> operands, const Addresses& addresses, int64_t sequence,
       int64_t head)
      : length_(shape.ragged ? static_cast<const int32_t*>(addresses.at(kLengths))[sequence] : shape.length) {
    for (const GraphOperand& x : operands) {
      const int64_t first =
          shape.ragged ? static_cast<const int64_t*>(addresses.at(kOffsets + x.id))[sequence] : sequence * shape.length * x.pitch;
      if (x.id != kStats) {
        matrices_[x.id] = {static_cast<bf16*>(addresses.at(x.id)) + first + head * x.head_pitch, x.pitch, x.dim};
      } else if (shape.ragged) {
        stats_ = static_cast<float*>(addresses.at(kStats)) + first + head * x.head_pitch;
        stats_pitch_ = x.pitch;
      } else {
        stats_ = static_cast<float*>(addresses.at(kStats)) + (sequence * shape.heads + head) * shape.length;
      }
    }
  }

  int64_t length() const { return length_; }
  int64_t dim(GraphTensor id) const { return matrices_[id].dim; }
  double Get(GraphTensor id, int64_t row, int64_t i) const {
    return static_cast<double>(static_cast<float>(matrices_[id].data[row * matrices_[id].pitch + i]));
  }
  void Set(GraphTensor id, int64_t row, int64_t i, double value) const {
    matrices_[id].data[row * matrices_[id].pitch + i] = bf16(static_cast<float>(value));
  }
  float& Stats(int64_t row) const { return stats_[row * stats_pitch_]; }
  double Dot(GraphTensor a, int64_t row_a, GraphTensor b, int64_t row_b) const {
    double sum = 0;
    for (int64_t i = 0; i < dim(a); ++i) sum += Get(a, row_a, i) * Get(b, row_b, i);
    return sum;
  }

 private:
  struct Matrix {
    bf16* data = nullptr;
    int64_t pitch = 0, dim = 0;
  };
  int64_t length_;
  std::array<Matrix, kLengths> matrices_;
  float* stats_ = nullptr;
  int64_t stats_pitch_ = 1;
};

void Forward(const Head& head, double scale) {
  for (int64_t row = 0; row < head.length(); ++row) {
    std::vector<double> scores;
    double largest = -INFINITY, sum = 0;
    for (int64_t other = 0; other <= row; ++other) {
      scores.push_back(scale * head.Dot(kQ, row, kK, other));
      largest = std::max(largest, scores.back());
    }
    for (const double score : scores) sum += std::exp(score - largest);
    const double lse = largest + std::log(sum);
    head.Stats(row) = static_cast<float>(lse);
    for (int64_t i = 0; i < head.dim(kO); ++i) {
      double o = 0;
      for (int64_t other = 0; other <= row; ++other)
        o += std::exp(scores[static_cast<size_t>(other)] - lse) * head.Get(kV, other, i);
      head.Set(kO, row, i, o);
    }
  }
}

void Backward(const Head& head, double scale) {
  const int64_t n = head.length();
  const auto at = [n](int64_t row, int64_t other) { return static_cast<size_t>(row * n + other); };
  std::vector<double> p(static_cast<size_t>(n * n)), d_score(p.size());
  for (int64_t row = 0; row < n; ++row) {
    const double d = head.Dot(kO, row, kDO, row);
    for (int64_t other = 0; other <= row; ++other) {
      p[at(row, other)] = std::exp(scale * head.Dot(kQ, row, kK, other) - head.Stats(row));
      d_score[at(row, other)] = scale * p[at(row, other)] * (head.Dot(kDO, row, kV, other) - d);
    }
  }
  const auto sum = [&](const std::vector<double>& weights, bool by_row, GraphTensor from, GraphTensor to) {
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t i = 0; i < head.dim(to); ++i) {
        double total = 0;
        for (int64_t other = 0; other < n; ++other)
          total += weights[by_row ? at(row, other) : at(other, row)] * head.Get(from, other, i);
        head.Set(to, row, i, total);
      }
    }
  };
  sum(d_score, true, kK, kDQ);
  sum(d_score, false, kQ, kDK);
  sum(p, false, kDO, kDV);
}

}  // namespace

struct AttentionGraph::Plan {
  GraphShape shape;
  std::vector<GraphOperand> operands;
};

AttentionGraph::AttentionGraph(std::unique_ptr<Plan> plan) : plan_(std::move(plan)) {}
AttentionGraph::~AttentionGraph() = default;

absl::StatusOr<std::unique_ptr<AttentionGraph>> AttentionGraph::Make(const GraphShape& shape,
                                                                     std::span<const GraphOperand> operands, const GraphDevice&) {
  for (const GraphOperand& x : operands) Demand(x.dim % 8 == 0 || x.id == kStats, "head sizes are multiples of 8");
  Demand(shape.heads > 0 && shape.batch * shape.length >= shape.rows, "room for all rows");
  return std::unique_ptr<AttentionGraph>(
      new AttentionGraph(std::unique_ptr<Plan>(new Plan{shape, {operands.begin(), operands.end()}})));
}

int64_t AttentionGraph::workspace_bytes() const { return WorkspaceBytes(plan_->shape); }

void AttentionGraph::Execute(cudnnContext*, std::unordered_map<int64_t, void*>& addresses, void* workspace) const {
  const cuda_on_host::DeviceAccess access;
  Demand(reinterpret_cast<uintptr_t>(workspace) % 256 == 0, "the workspace lies at a multiple of 256 bytes");
  for (const GraphOperand& x : plan_->operands)
    Demand(reinterpret_cast<uintptr_t>(addresses.at(x.id)) % (x.id == kStats ? 4 : 16) == 0, "operands at multiples of 16 bytes");
  for (int64_t sequence = 0; sequence < plan_->shape.batch; ++sequence) {
    for (int64_t h = 0; h < plan_->shape.heads; ++h) {
      const Head head(plan_->shape, plan_->operands, addresses, sequence, h);
      Demand(head.length() <= plan_->shape.length, "no sequence is longer than said");
      plan_->shape.backward ? Backward(head, plan_->shape.scale) : Forward(head, plan_->shape.scale);
    }
  }
}

std::string OpenCudnn() { return ""; }
int CudnnVersion() { return cuda_on_host::CudnnVersion(); }
cudnnContext* NewCudnnHandle(std::string*) {
  return cuda_on_host::Handles().emplace_back(new cudnnContext{cuda_on_host::CurrentDevice()});
}
void SetCudnnStream(cudnnContext* handle, void*) {
  Demand(handle->device == cuda_on_host::CurrentDevice(), "a handle works on the device on which it was made");
}

}  // namespace jevons::cuda
