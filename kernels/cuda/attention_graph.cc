#include "kernels/cuda/attention_graph.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // the frontend looks its functions up here
}

namespace jevons::cuda {
namespace {

namespace fe = cudnn_frontend;
using Attributes = std::shared_ptr<fe::graph::Tensor_attributes>;

constexpr int kHopper = 90;

std::shared_ptr<const fe::DeviceProperties> Described(const GraphDevice& device) {
  const auto properties = std::make_shared<fe::DeviceProperties>();
  fe::error_t error = properties->deserialize({device.description.begin(), device.description.end()});
  if (error.is_bad()) throw std::runtime_error(error.get_message());
  return properties;
}

class Builder {
 public:
  Builder(const GraphShape& shape, const GraphDevice& device) : s_(shape), graph_(std::make_unique<fe::graph::Graph>()) {
    // Nodes take the device over when they are made.
    if (device.handle == nullptr) graph_->set_device_properties(Described(device)).set_sm_version(kHopper);
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (s_.ragged) lengths_ = Small(kLengths, s_.batch, fe::DataType_t::INT32);
  }

  std::unique_ptr<fe::graph::Graph> Forward(std::span<const GraphOperand> x) && {
    const Attributes q = Input(x[0]), k = Input(x[1]), v = Input(x[2]);
    fe::graph::SDPA_attributes attributes;
    attributes.set_name("forward").set_generate_stats(true);
    SetCommon(attributes);
    auto [o, stats] = graph_->sdpa(q, k, v, attributes);
    Describe(o->set_output(true), x[3]);
    Describe(stats->set_output(true), x[4]).set_data_type(fe::DataType_t::FLOAT);
    return std::move(graph_);
  }

  std::unique_ptr<fe::graph::Graph> Backward(std::span<const GraphOperand> x) && {
    const Attributes q = Input(x[0]), k = Input(x[1]), v = Input(x[2]), o = Input(x[3]), stats = Input(x[4]), d_o = Input(x[5]);
    fe::graph::SDPA_backward_attributes attributes;
    attributes.set_name("backward").set_deterministic_algorithm(true);
    SetCommon(attributes);
    if (s_.ragged) attributes.set_max_total_seq_len_q(s_.rows).set_max_total_seq_len_kv(s_.rows);
    auto [dq, dk, dv] = graph_->sdpa_backward(q, k, v, o, d_o, stats, attributes);
    Describe(dq->set_output(true), x[6]);
    Describe(dk->set_output(true), x[7]);
    Describe(dv->set_output(true), x[8]);
    return std::move(graph_);
  }

 private:
  template <class Attributes>
  void SetCommon(Attributes& attributes) const {
    attributes.set_attn_scale(s_.scale)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (s_.ragged) attributes.set_padding_mask(true).set_seq_len_q(lengths_).set_seq_len_kv(lengths_);
  }

  Attributes Small(int64_t id, int64_t n, fe::DataType_t type) {
    return graph_->tensor(
        fe::graph::Tensor_attributes().set_uid(id).set_dim({n, 1, 1, 1}).set_stride({1, 1, 1, 1}).set_data_type(type));
  }

  fe::graph::Tensor_attributes& Describe(fe::graph::Tensor_attributes& t, const GraphOperand& x) {
    t.set_uid(x.id).set_dim({s_.batch, s_.heads, s_.length, x.dim});
    if (x.id == kStats && !s_.ragged) {
      t.set_stride({s_.heads * s_.length, s_.length, 1, 1});
    } else {
      t.set_stride({s_.length * x.pitch, x.head_pitch, x.pitch, 1});
    }
    if (s_.ragged) t.set_ragged_offset(Small(kOffsets + x.id, s_.batch + 1, fe::DataType_t::INT64));
    return t;
  }

  Attributes Input(const GraphOperand& x) {
    fe::graph::Tensor_attributes t;
    Describe(t, x);
    if (x.id == kStats) t.set_data_type(fe::DataType_t::FLOAT);
    return graph_->tensor(t);
  }

  GraphShape s_;
  std::unique_ptr<fe::graph::Graph> graph_;
  Attributes lengths_;
};

// Empty, or why the library cannot run this graph.
std::string Prepare(fe::graph::Graph& graph, cudnnHandle_t handle) {
  const auto steps = {std::function<fe::error_t()>([&] { return graph.validate(); }),
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

}  // namespace

struct AttentionGraph::Plan {
  std::unique_ptr<fe::graph::Graph> graph;
};

AttentionGraph::AttentionGraph(std::unique_ptr<Plan> plan) : plan_(std::move(plan)) {}
AttentionGraph::~AttentionGraph() = default;

absl::StatusOr<std::unique_ptr<AttentionGraph>> AttentionGraph::Make(const GraphShape& shape,
                                                                     std::span<const GraphOperand> operands,
                                                                     const GraphDevice& device) {
  std::string refusal;
  try {
    auto plan = std::make_unique<Plan>(
        Plan{shape.backward ? Builder(shape, device).Backward(operands) : Builder(shape, device).Forward(operands)});
    refusal = Prepare(*plan->graph, device.handle);
    if (refusal.empty()) return std::unique_ptr<AttentionGraph>(new AttentionGraph(std::move(plan)));
  } catch (const std::exception& e) {
    refusal = e.what();
  }
  return FailureError(refusal);
}

int64_t AttentionGraph::workspace_bytes() const {
  int64_t bytes = 0;
  fe::error_t error = plan_->graph->get_workspace_size(bytes);
  JEVONS_CHECK(error.is_good(), "cuDNN's workspace: %s", error.get_message().c_str());
  return bytes;
}

void AttentionGraph::Execute(cudnnContext* handle, std::unordered_map<int64_t, void*>& addresses, void* workspace) const {
  fe::error_t error = plan_->graph->execute(handle, addresses, workspace);
  JEVONS_CHECK(error.is_good(), "cuDNN's attention: %s", error.get_message().c_str());
}

std::string OpenCudnn() {
  setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", absl::StrFormat("libcudart.so.%d", CUDART_VERSION / 1000).c_str(), 0);
  // The first is a shell: it opens the second when it is first asked for something, and aborts the program where it cannot.
  for (const char* library : {"libcudnn.so.9", "libcudnn_graph.so.9"}) {
    void* handle = dlopen(library, RTLD_NOW);
    if (handle == nullptr) return absl::StrFormat("%s cannot be opened: %s", library, dlerror());
    if (fe::cudnn_dlhandle == nullptr) fe::cudnn_dlhandle = handle;
  }
  return "";
}

int CudnnVersion() { return static_cast<int>(fe::detail::get_backend_version()); }

cudnnContext* NewCudnnHandle(std::string* problem) {
  cudnnHandle_t handle = nullptr;
  const cudnnStatus_t status = fe::detail::create_handle(&handle);
  if (status == CUDNN_STATUS_SUCCESS) return handle;
  *problem = absl::StrFormat("cuDNN cannot be used: status %d", static_cast<int>(status));
  return nullptr;
}

void SetCudnnStream(cudnnContext* handle, void* stream) {
  static const auto set = reinterpret_cast<decltype(&cudnnSetStream)>(dlsym(fe::cudnn_dlhandle, "cudnnSetStream"));
  JEVONS_CHECK(set != nullptr, "libcudnn.so.9 has no cudnnSetStream");
  const cudnnStatus_t status = set(handle, static_cast<cudaStream_t>(stream));
  JEVONS_CHECK(status == CUDNN_STATUS_SUCCESS, "cudnnSetStream: status %d", static_cast<int>(status));
}

}  // namespace jevons::cuda
