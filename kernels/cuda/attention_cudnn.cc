// Attention by cuDNN's fused kernels. The library is opened when it is first needed, so a program runs without it.
//
// Heads go in groups, which bounds the memory for whole keys and for what the backward needs to give the same bits every time: scores
// of all documents' pairs of positions. Long documents and short ones have graphs of their own there (attention_plan.h).
#include "kernels/cuda/attention_cudnn.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_layout.h"
#include "kernels/cuda/report.h"
#include "kernels/ops/elementwise.h"

namespace jevons::cuda {
namespace {

GraphOperand OperandOf(GraphTensor id, const Tensor& t, int64_t head_pitch, int64_t first_element, int64_t dim) {
  return {id, static_cast<char*>(t.data) + first_element * SizeOf(t.dtype), t.pitch, head_pitch, dim};
}

constexpr size_t kMostOperands = 9;
using Key = std::array<int64_t, 7 + 3 * kMostOperands>;
Key KeyOf(const GraphShape& s, std::span<const GraphOperand> operands) {
  Key key = {s.backward, s.batch, s.length, s.rows, s.heads, s.ragged, std::bit_cast<int32_t>(s.scale)};
  size_t i = 7;
  for (const GraphOperand& x : operands) {
    for (const int64_t v : {x.pitch, x.head_pitch, x.dim}) key[i++] = v;
  }
  return key;
}

// The first version whose backward is right for packed documents on Hopper: earlier ones leave part of the workspace unwritten
// (TransformerEngine asks for it, too).
constexpr int kDocumentsVersion = 91800;

std::string VersionText(int version) {  // 91900 is 9.19.0
  return absl::StrFormat("%d.%d.%d", version / 10000, version % 10000 / 100, version % 100);
}

struct PlannedGraph {
  std::unique_ptr<AttentionGraph> graph;
  std::string refusal;  // where there is none
};

class Library {
 public:
  Library() : problem_(OpenCudnn()), version_(problem_.empty() ? CudnnVersion() : 0) {}
  const std::string& problem() const { return problem_; }
  int version() const { return version_; }
  // Of the device that is in use when attention is first asked for: a handle belongs to the device on which it is made.
  cudnnContext* handle() {
    if (handle_ == nullptr && problem_.empty()) handle_ = NewCudnnHandle(&problem_);
    return handle_;
  }
  std::mutex mutex;  // held through a call
  std::map<Key, PlannedGraph> graphs;

 private:
  std::string problem_;
  int version_;
  cudnnContext* handle_ = nullptr;  // as long as the process
};

Library& TheLibrary() {
  static Library* library = new Library;
  return *library;
}

const PlannedGraph& GraphFor(Library& library, const GraphShape& shape, std::span<const GraphOperand> operands) {
  const auto [at, is_new] = library.graphs.try_emplace(KeyOf(shape, operands));
  if (!is_new) return at->second;
  absl::StatusOr<std::unique_ptr<AttentionGraph>> graph = AttentionGraph::Make(shape, operands, {.handle = library.handle()});
  if (graph.ok()) {
    at->second.graph = std::move(*graph);
  } else {
    at->second.refusal = std::string(graph.status().message());
  }
  return at->second;
}

// Why the call is not for the library; empty if it is.
std::string RefusalOf(const AttentionDesc& d, const AttentionGrad* grad) {
  Library& library = TheLibrary();
  if (!library.problem().empty()) return library.problem();
  if (std::string refusal = CudnnRefusal(d, grad); !refusal.empty()) return refusal;
  if (d.document_start && library.version() < kDocumentsVersion)
    return absl::StrFormat("documents want cuDNN %s, this is %s", VersionText(kDocumentsVersion), VersionText(library.version()));
  return "";
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
        plan_(PlanOf(d, grad != nullptr, DocumentsAreCountedExactly())),
        heads_(plan_.heads()) {
    if (library_.handle() == nullptr) return;
    SetCudnnStream(library_.handle(), ctx.stream.handle);
    room_ = CudnnRoom(ctx, d, plan_);
  }

  // Why nothing was done: there is no handle, or no plan; empty: all is done.
  std::string Run() {
    if (library_.handle() == nullptr) return library_.problem();
    for (int64_t first = 0; first < d_.heads; first += heads_) {
      const HeadGroup heads = {first, heads_};
      const Tensor lse = d_.lse.Columns(first, heads_);
      operands_ = OperandsOf(d_, grad_, room_, first);
      if (first == 0) {  // all groups are alike
        if (const std::string refusal = Plan(); !refusal.empty()) return refusal;
      }
      AssembleKeys(ctx_, d_, heads, room_.keys);
      if (grad_ != nullptr) Move(lse, StatsTo::kHeadMajor);
      for (const Part& part : parts_) Execute(part);
      if (grad_ == nullptr) {
        Move(lse, StatsTo::kRows);
      } else {
        SplitKeyGrads(ctx_, d_, heads, room_.d_keys, *grad_, room_.sums);
      }
    }
    return "";
  }

 private:
  struct Part {
    const PartPlan* plan;
    const AttentionGraph* graph;
    DocumentTable table;
  };

  // The library has lse row by row where documents are packed, else head by head.
  void Move(const Tensor& lse, StatsTo to) const {
    if (!d_.document_start) return MoveStats(ctx_, lse, d_.sequence_length, room_.stats, to);
    to == StatsTo::kRows ? Copy(ctx_, room_.stats, lse) : Copy(ctx_, lse, room_.stats);
  }

  // A graph and a table for each part, and what the largest graph works in; why there is no graph, or empty.
  std::string Plan() {
    int64_t workspace = 0;
    for (const PartPlan& plan : plan_.parts) {
      const PlannedGraph& planned = GraphFor(library_, plan.shape, operands_);
      if (planned.graph == nullptr) return planned.refusal;
      workspace = std::max(workspace, planned.graph->workspace_bytes());
      parts_.push_back({.plan = &plan, .graph = planned.graph.get(), .table = {}});
    }
    workspace_ = CudnnWorkspace(ctx_, workspace);
    if (!d_.document_start) return "";
    for (Part& part : parts_) {
      part.table = TableOf(*part.plan);
      FillDocuments(ctx_, d_, part.table);
    }
    return "";
  }

  DocumentTable TableOf(const PartPlan& plan) const {
    DocumentTable table;
    table.documents = plan.documents;
    table.above = plan.above;
    table.longest = plan.shape.length;
    for (const GraphOperand& x : operands_) table.pitches[table.count++] = x.pitch;
    const CudnnTableRoom room(ctx_, plan, table.count);
    table.lengths = room.lengths;
    table.offsets = room.offsets;
    return table;
  }

  void Execute(const Part& part) const {
    std::unordered_map<int64_t, void*> addresses;
    for (const GraphOperand& x : operands_) addresses[x.id] = x.data;
    constexpr uintptr_t kUnit = kCudnnWorkspaceAlignment;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(workspace_.data), aligned = (begin + kUnit - 1) / kUnit * kUnit;
    int64_t first = 0;  // document
    do {
      if (d_.document_start) {
        addresses[kLengths] = part.table.lengths.as<int32_t>() + first;
        for (size_t i = 0; i < operands_.size(); ++i)
          addresses[kOffsets + operands_[i].id] = part.table.offsets.row<int64_t>(static_cast<int64_t>(i)) + first;
      }
      part.graph->Execute(library_.handle(), addresses, reinterpret_cast<void*>(aligned));
      first += part.plan->shape.batch;
    } while (first < part.plan->documents);
  }

  const OpContext& ctx_;
  const AttentionDesc& d_;
  const AttentionGrad* grad_;  // null: forward
  ArenaScope scope_;
  Library& library_;
  std::lock_guard<std::mutex> lock_;
  CallPlan plan_;
  int64_t heads_;  // of a group
  CudnnRoom room_;
  Tensor workspace_;
  std::vector<GraphOperand> operands_;
  std::vector<Part> parts_;
};

}  // namespace

std::vector<GraphOperand> OperandsOf(const AttentionDesc& d, const AttentionGrad* grad, const CudnnRoom& room, int64_t first) {
  const int64_t dk = d.nope_dim + d.rope_dim, dv = d.value_dim, kv = d.nope_dim + dv;
  std::vector<GraphOperand> x = {OperandOf(kQ, d.q, dk, first * dk, dk), OperandOf(kK, room.keys, dk, 0, dk),
                                 OperandOf(kV, d.kv, kv, first * kv + d.nope_dim, dv), OperandOf(kO, d.o, dv, first * dv, dv),
                                 OperandOf(kStats, room.stats, 1, 0, 1)};
  if (grad == nullptr) return x;
  x.push_back(OperandOf(kDO, grad->d_o, dv, first * dv, dv));
  x.push_back(OperandOf(kDQ, grad->dq, dk, first * dk, dk));
  x.push_back(OperandOf(kDK, room.d_keys, dk, 0, dk));
  x.push_back(OperandOf(kDV, grad->dkv, kv, first * kv + d.nope_dim, dv));
  return x;
}

std::string CudnnProblem() { return TheLibrary().problem(); }

std::string CudnnText() {
  const Library& library = TheLibrary();
  if (library.version() == 0) return "";
  return absl::StrFormat("cuDNN %s%s", VersionText(library.version()),
                         library.version() < kDocumentsVersion
                             ? ", which is not used for documents: those want " + VersionText(kDocumentsVersion)
                             : "");
}

std::string CudnnAttention(const OpContext& ctx, const AttentionDesc& desc) {
  if (desc.q.rows() == 0) return "";
  const std::string refusal = RefusalOf(desc, nullptr);
  return refusal.empty() ? Call(ctx, desc, nullptr).Run() : refusal;
}

std::string CudnnAttentionBackward(const OpContext& ctx, const AttentionDesc& desc, const AttentionGrad& grad) {
  if (desc.q.rows() == 0) return "";
  const std::string refusal = RefusalOf(desc, &grad);
  return refusal.empty() ? Call(ctx, desc, &grad).Run() : refusal;
}

}  // namespace jevons::cuda
