// Which calls of attention are for cuDNN, as far as no device and no library need be asked.
#include "absl/strings/str_format.h"
#include "kernels/base/environment.h"
#include "kernels/cuda/attention.h"

namespace jevons::cuda {
namespace {

constexpr int64_t kLargestHead = 256, kHeadUnit = 8;

bool Words(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && (t.rows() <= 1 || t.pitch * SizeOf(t.dtype) % 16 == 0);
}

struct Choice {
  bool plain = false, exact = false;
};

Choice FromEnvironment() {
  constexpr const char* kNames[] = {"cudnn", "plain", "exact"};
  const size_t named = EnvironmentChoice("JEVONS_CUDA_ATTENTION", kNames).value_or(0);
  return {.plain = named == 1, .exact = named == 2};
}

Choice& TheChoice() {
  static Choice choice = FromEnvironment();
  return choice;
}

}  // namespace

void LeaveOutCudnn(bool leave_out) { TheChoice().plain = leave_out; }
bool CudnnIsLeftOut() { return TheChoice().plain; }
void CountDocumentsExactly(bool exactly) { TheChoice().exact = exactly; }
bool DocumentsAreCountedExactly() { return TheChoice().exact; }

std::string CudnnRefusal(const AttentionDesc& d, const AttentionGrad* grad) {
  if (d.q.dtype != DType::kBF16) return "it takes BF16 alone";
  const bool dims = d.nope_dim % kHeadUnit == 0 && d.rope_dim % kHeadUnit == 0 && d.value_dim % kHeadUnit == 0 &&
                    d.nope_dim + d.rope_dim <= kLargestHead && d.value_dim <= kLargestHead;
  if (!dims) return absl::StrFormat("heads are multiples of %d, up to %d", kHeadUnit, kLargestHead);
  if (!(Words(d.q) && Words(d.kv) && Words(d.k_rope) && Words(d.o))) return "rows begin at multiples of 16 bytes";
  if (grad != nullptr && !(Words(grad->d_o) && Words(grad->dq) && Words(grad->dkv) && Words(grad->dk_rope)))
    return "rows of gradients begin at multiples of 16 bytes";
  if (d.document_start && (d.documents <= 0 || d.longest_document <= 0))
    return "the number and length of documents are not known";
  return "";
}

}  // namespace jevons::cuda
