// Attention by cuDNN's fused kernels. The library is opened when it is first needed, so a program runs without it.
//
// A document is a sequence of the library's batch, causal from its own beginning; documents are packed one after the other
// ("ragged"), and the table of where they begin is made on the device. Heads go in groups, which bounds the memory for whole keys
// and for what the backward needs to give the same bits every time: scores of all documents' pairs of positions.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_layout.h"
#include "kernels/ops/elementwise.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // the frontend looks its functions up here
}

namespace jevons::cuda {
namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using GraphTensor = std::shared_ptr<fe::graph::Tensor_attributes>;

constexpr int64_t kMostKeyBytes = int64_t{256} << 20;  // whole keys of a group of heads
constexpr int64_t kMostScoreBytes = int64_t{1} << 30;  // scores of a group of heads in the backward
constexpr int64_t kLargestHead = 256, kHeadUnit = 8;

// The names of tensors within a graph.
enum Id : int64_t { kQ = 1, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV, kLengths, kOffsets };

// Heads of a [T, ...] tensor.
struct Operand {
  Id id = kQ;
  void* data = nullptr;
  int64_t pitch = 0, head_pitch = 0, dim = 0;
};
Operand OperandOf(Id id, const Tensor& t, int64_t head_pitch, int64_t first_element, int64_t dim) {
  return {id, static_cast<char*>(t.data) + first_element * SizeOf(t.dtype), t.pitch, head_pitch, dim};
}

// What a call is about, but for addresses.
struct Shape {
  int64_t backward, batch, length, rows, heads, ragged;
  float scale;
};

constexpr size_t kMostOperands = 9;
using Key = std::array<int64_t, 7 + 3 * kMostOperands>;
Key KeyOf(const Shape& s, std::span<const Operand> operands) {
  Key key = {s.backward, s.batch, s.length, s.rows, s.heads, s.ragged, std::bit_cast<int32_t>(s.scale)};
  size_t i = 7;
  for (const Operand& x : operands) {
    for (const int64_t v : {x.pitch, x.head_pitch, x.dim}) key[i++] = v;
  }
  return key;
}

class Library {
 public:
  Library() {
    setenv("CUDNN_FRONTEND_CUDART_LIB_NAME",
           absl::StrFormat("libcudart.so.%d", CUDART_VERSION / 1000).c_str(), 0);
    fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW);
    if (fe::cudnn_dlhandle == nullptr) {
      problem_ = absl::StrFormat("libcudnn.so.9 cannot be opened: %s", dlerror());
      return;
    }
    set_stream_ = reinterpret_cast<decltype(&cudnnSetStream)>(dlsym(fe::cudnn_dlhandle, "cudnnSetStream"));
    const cudnnStatus_t status = fe::detail::create_handle(&handle_);
    if (set_stream_ == nullptr || status != CUDNN_STATUS_SUCCESS)
      problem_ = absl::StrFormat("cuDNN cannot be used: status %d", static_cast<int>(status));
  }
  const std::string& problem() const { return problem_; }
  cudnnHandle_t HandleFor(const OpContext& ctx) const {
    const cudnnStatus_t status = set_stream_(handle_, static_cast<cudaStream_t>(ctx.stream.handle));
    JEVONS_CHECK(status == CUDNN_STATUS_SUCCESS, "cudnnSetStream: status %d", static_cast<int>(status));
    return handle_;
  }
  std::mutex mutex;                              // held through a call
  std::map<Key, std::shared_ptr<Graph>> graphs;  // null: refused

 private:
  cudnnHandle_t handle_ = nullptr;  // as long as the process
  decltype(&cudnnSetStream) set_stream_ = nullptr;
  std::string problem_;
};

Library& TheLibrary() {
  static Library* library = new Library;
  return *library;
}

class Builder {
 public:
  explicit Builder(const Shape& shape) : s_(shape), graph_(std::make_shared<Graph>()) {
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (s_.ragged) lengths_ = Small(kLengths, s_.batch, fe::DataType_t::INT32);
  }

  std::shared_ptr<Graph> Forward(std::span<const Operand> x) {
    const GraphTensor q = Input(x[0]), k = Input(x[1]), v = Input(x[2]);
    fe::graph::SDPA_attributes attributes;
    attributes.set_name("forward").set_generate_stats(true);
    SetCommon(attributes);
    auto [o, stats] = graph_->sdpa(q, k, v, attributes);
    Describe(o->set_output(true), x[3]);
    Describe(stats->set_output(true), x[4]).set_data_type(fe::DataType_t::FLOAT);
    return graph_;
  }

  std::shared_ptr<Graph> Backward(std::span<const Operand> x) {
    const GraphTensor q = Input(x[0]), k = Input(x[1]), v = Input(x[2]), o = Input(x[3]), stats = Input(x[4]),
                      d_o = Input(x[5]);
    fe::graph::SDPA_backward_attributes attributes;
    attributes.set_name("backward").set_deterministic_algorithm(true);
    SetCommon(attributes);
    if (s_.ragged) attributes.set_max_total_seq_len_q(s_.rows).set_max_total_seq_len_kv(s_.rows);
    auto [dq, dk, dv] = graph_->sdpa_backward(q, k, v, o, d_o, stats, attributes);
    Describe(dq->set_output(true), x[6]);
    Describe(dk->set_output(true), x[7]);
    Describe(dv->set_output(true), x[8]);
    return graph_;
  }

 private:
  template <class Attributes>
  void SetCommon(Attributes& attributes) const {
    attributes.set_attn_scale(s_.scale)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (s_.ragged) attributes.set_padding_mask(true).set_seq_len_q(lengths_).set_seq_len_kv(lengths_);
  }

  GraphTensor Small(int64_t id, int64_t n, fe::DataType_t type) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_uid(id)
                              .set_dim({n, 1, 1, 1})
                              .set_stride({1, 1, 1, 1})
                              .set_data_type(type));
  }

  fe::graph::Tensor_attributes& Describe(fe::graph::Tensor_attributes& t, const Operand& x) {
    t.set_uid(x.id).set_dim({s_.batch, s_.heads, s_.length, x.dim});
    if (x.id == kStats && !s_.ragged) {
      t.set_stride({s_.heads * s_.length, s_.length, 1, 1});
    } else {
      t.set_stride({s_.length * x.pitch, x.head_pitch, x.pitch, 1});
    }
    if (s_.ragged) t.set_ragged_offset(Small(kOffsets + x.id, s_.batch + 1, fe::DataType_t::INT64));
    return t;
  }

  GraphTensor Input(const Operand& x) {
    fe::graph::Tensor_attributes t;
    Describe(t, x);
    if (x.id == kStats) t.set_data_type(fe::DataType_t::FLOAT);
    return graph_->tensor(t);
  }

  Shape s_;
  std::shared_ptr<Graph> graph_;
  GraphTensor lengths_;
};

// Empty, or why the library cannot run this graph.
std::string Prepare(Graph& graph, cudnnHandle_t handle) {
  const auto steps = {
      std::function<fe::error_t()>([&] { return graph.validate(); }),
      std::function<fe::error_t()>([&] { return graph.build_operation_graph(handle); }),
      std::function<fe::error_t()>([&] { return graph.create_execution_plans({fe::HeurMode_t::A}); }),
      std::function<fe::error_t()>([&] { return graph.check_support(); }),
      std::function<fe::error_t()>([&] { return graph.build_plans(); })};
  for (const auto& step : steps) {
    fe::error_t error = step();
    if (error.is_bad()) return error.get_message();
  }
  return "";
}

std::shared_ptr<Graph> GraphFor(Library& library, cudnnHandle_t handle, const Shape& shape,
                                std::span<const Operand> operands) {
  const auto [at, is_new] = library.graphs.try_emplace(KeyOf(shape, operands));
  if (!is_new) return at->second;
  std::string refusal;
  try {
    std::shared_ptr<Graph> graph =
        shape.backward ? Builder(shape).Backward(operands) : Builder(shape).Forward(operands);
    refusal = Prepare(*graph, handle);
    if (refusal.empty()) at->second = std::move(graph);
  } catch (const std::exception& e) {
    refusal = e.what();
  }
  if (!refusal.empty())
    LogWarning(
        absl::StrFormat("cuDNN refuses attention %s of %d heads of %d and %d, %d x %d positions (%s); the "
                        "plain kernel serves, slowly",
                        shape.backward ? "backward" : "forward", shape.heads, operands[0].dim,
                        operands[2].dim, shape.batch, shape.length, refusal));
  return at->second;
}

// How T rows make a batch.
struct Batch {
  int64_t size = 0, length = 0;
  bool ragged = false;
};
Batch BatchOf(const AttentionDesc& d) {
  if (!d.document_start) return {d.q.rows() / d.sequence_length, d.sequence_length, false};
  // Powers of two, so that few shapes ever come.
  const auto up = [](int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); };
  return {up(d.documents), std::min(up(std::max<int64_t>(d.longest_document, 256)), d.sequence_length), true};
}

bool Words(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 &&
         (t.rows() <= 1 || t.pitch * SizeOf(t.dtype) % 16 == 0);
}

bool Serves(const AttentionDesc& d) {
  const bool dims = d.nope_dim % kHeadUnit == 0 && d.rope_dim % kHeadUnit == 0 &&
                    d.value_dim % kHeadUnit == 0 && d.nope_dim + d.rope_dim <= kLargestHead &&
                    d.value_dim <= kLargestHead;
  const bool documents = !d.document_start || (d.documents > 0 && d.longest_document > 0);
  const bool words = Words(d.q) && Words(d.kv) && Words(d.k_rope) && Words(d.o);
  return d.q.dtype == DType::kBF16 && dims && documents && words && CudnnProblem().empty();
}

// The largest number of heads that divides all of them and keeps to the bounds.
int64_t HeadsOfGroup(const AttentionDesc& d, const Batch& batch, bool backward) {
  const int64_t side = (batch.length + 63) / 64 * 64, scores = batch.size * side * side * 2;
  const int64_t keys = d.q.rows() * (d.nope_dim + d.rope_dim) * 2;
  int64_t most = kMostKeyBytes / keys;
  if (backward) most = std::min(most, kMostScoreBytes / scores);
  int64_t count = std::clamp<int64_t>(most, 1, d.heads);
  while (d.heads % count != 0) --count;
  return count;
}

// Everything of a call that is the same for all its groups of heads.
class Call {
 public:
  Call(const OpContext& ctx, const AttentionDesc& d, const AttentionGrad* grad)
      : ctx_(ctx),
        d_(d),
        grad_(grad),
        scope_(*ctx.scratch),
        library_(TheLibrary()),
        lock_(library_.mutex),
        handle_(library_.HandleFor(ctx)),
        batch_(BatchOf(d)),
        group_(HeadsOfGroup(d, batch_, grad != nullptr)) {
    const int64_t rows = d.q.rows(), dim = key_dim();
    keys_ = ctx.scratch->Allocate("attention.keys", DType::kBF16, {rows, group_ * dim});
    stats_ = ctx.scratch->Allocate("attention.lse", DType::kF32, {rows, group_});
    if (grad == nullptr) return;
    d_keys_ = ctx.scratch->Allocate("attention.dkeys", DType::kBF16, {rows, group_ * dim});
    sums_ = ctx.scratch->Allocate("attention.dk_rope", DType::kF32, {rows, d.rope_dim});
  }

  bool Run() {
    for (int64_t first = 0; first < d_.heads; first += group_) {
      const HeadGroup heads = {first, group_};
      const Tensor lse = d_.lse.Columns(first, group_);
      operands_ = OperandsOf(first);
      if (first == 0 && !Plan()) return false;  // all groups are alike
      AssembleKeys(ctx_, d_, heads, keys_);
      if (grad_ != nullptr) Move(lse, StatsTo::kHeadMajor);
      Execute();
      if (grad_ == nullptr) {
        Move(lse, StatsTo::kRows);
      } else {
        SplitKeyGrads(ctx_, d_, heads, d_keys_, *grad_, sums_);
      }
    }
    return true;
  }

 private:
  int64_t key_dim() const { return d_.nope_dim + d_.rope_dim; }

  // The library has lse row by row where documents are packed, else head by head.
  void Move(const Tensor& lse, StatsTo to) const {
    if (!batch_.ragged) return MoveStats(ctx_, lse, batch_.length, stats_, to);
    to == StatsTo::kRows ? Copy(ctx_, stats_, lse) : Copy(ctx_, lse, stats_);
  }

  std::vector<Operand> OperandsOf(int64_t first) const {
    const int64_t dk = key_dim(), dv = d_.value_dim, kv = d_.nope_dim + dv;
    std::vector<Operand> x = {OperandOf(kQ, d_.q, dk, first * dk, dk), OperandOf(kK, keys_, dk, 0, dk),
                              OperandOf(kV, d_.kv, kv, first * kv + d_.nope_dim, dv),
                              OperandOf(kO, d_.o, dv, first * dv, dv), OperandOf(kStats, stats_, 1, 0, 1)};
    if (grad_ == nullptr) return x;
    x.push_back(OperandOf(kDO, grad_->d_o, dv, first * dv, dv));
    x.push_back(OperandOf(kDQ, grad_->dq, dk, first * dk, dk));
    x.push_back(OperandOf(kDK, d_keys_, dk, 0, dk));
    x.push_back(OperandOf(kDV, grad_->dkv, kv, first * kv + d_.nope_dim, dv));
    return x;
  }

  bool Plan() {
    const Shape shape = {grad_ != nullptr, batch_.size,   batch_.length, d_.q.rows(),
                         group_,           batch_.ragged, d_.scale};
    graph_ = GraphFor(library_, handle_, shape, operands_);
    if (graph_ == nullptr) return false;
    int64_t bytes = 0;
    fe::error_t error = graph_->get_workspace_size(bytes);
    JEVONS_CHECK(error.is_good(), "cuDNN's workspace: %s", error.get_message().c_str());
    workspace_ = ctx_.scratch->Allocate("attention.workspace", DType::kU8, {bytes + 256});
    if (batch_.ragged) FillTable();
    return true;
  }

  void FillTable() {
    table_.documents = batch_.size;
    table_.longest = batch_.length;
    for (const Operand& x : operands_) table_.pitches[table_.count++] = x.pitch;
    table_.lengths = ctx_.scratch->Allocate("attention.documents", DType::kI32, {batch_.size});
    table_.offsets =
        ctx_.scratch->Allocate("attention.documents", DType::kI64, {table_.count, batch_.size + 1});
    FillDocuments(ctx_, d_, table_);
  }

  void Execute() {
    std::unordered_map<int64_t, void*> addresses;
    for (size_t i = 0; i < operands_.size(); ++i) {
      addresses[operands_[i].id] = operands_[i].data;
      if (batch_.ragged)
        addresses[kOffsets + operands_[i].id] = table_.offsets.row<int64_t>(static_cast<int64_t>(i));
    }
    if (batch_.ragged) addresses[kLengths] = table_.lengths.data;
    const uintptr_t workspace = (reinterpret_cast<uintptr_t>(workspace_.data) + 255) / 256 * 256;
    fe::error_t error = graph_->execute(handle_, addresses, reinterpret_cast<void*>(workspace));
    JEVONS_CHECK(error.is_good(), "cuDNN's attention: %s", error.get_message().c_str());
  }

  const OpContext& ctx_;
  const AttentionDesc& d_;
  const AttentionGrad* grad_;  // null: forward
  ArenaScope scope_;
  Library& library_;
  std::lock_guard<std::mutex> lock_;
  cudnnHandle_t handle_;
  Batch batch_;
  int64_t group_;  // heads
  Tensor keys_, stats_, d_keys_, sums_, workspace_;
  std::vector<Operand> operands_;
  std::shared_ptr<Graph> graph_;
  DocumentTable table_;
};

}  // namespace

std::string CudnnProblem() { return TheLibrary().problem(); }

bool CudnnAttention(const OpContext& ctx, const AttentionDesc& desc) {
  return Serves(desc) && Call(ctx, desc, nullptr).Run();
}

bool CudnnAttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad) {
  const bool words = Words(grad.d_o) && Words(grad.dq) && Words(grad.dkv) && Words(grad.dk_rope);
  return words && Serves(desc) && Call(ctx, desc, &grad).Run();
}

}  // namespace jevons::cuda
