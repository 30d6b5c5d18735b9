#include "trainer/step/step_buffers.h"

#include <algorithm>

namespace jevons {
namespace {

constexpr int64_t kWord = sizeof(int64_t);
constexpr int64_t kFp8Words = sizeof(Fp8Stats) / kWord;
static_assert(sizeof(Fp8Stats) % kWord == 0 && sizeof(double) == sizeof(int64_t));

}  // namespace

void BatchBuffer::Upload(std::span<const int32_t> tokens, std::span<const int32_t> document_start, int64_t sequence_length) {
  const auto tokens_size = static_cast<int64_t>(tokens.size()), starts_size = static_cast<int64_t>(document_start.size());
  const int64_t S = sequence_length_ = sequence_length, count = tokens_size / (S + 1);
  const int64_t bytes = (tokens_size + starts_size) * static_cast<int64_t>(sizeof(int32_t));
  if (staging_ == nullptr || staging_->bytes() < bytes) {
    staging_ = std::make_unique<Staging>(stream_.device, bytes);
    arena_ = std::make_unique<Arena>("batch", std::max<int64_t>(1, Arena::SliceBytes(DType::kU8, {bytes})), stream_.device);
  }
  auto* host = static_cast<int32_t*>(staging_->data());
  std::copy(tokens.begin(), tokens.end(), host);
  std::copy(document_start.begin(), document_start.end(), host + tokens_size);
  arena_->Release({0, 0});
  auto* device = static_cast<int32_t*>(arena_->Allocate("batch", DType::kU8, {bytes}).data);
  CopyBytes(stream_, host, device, bytes);
  tokens_ = Tensor::Of(device, {count, S + 1});
  document_start_ = starts_size > 0 ? Tensor::Of(device + tokens_size, {count, S}) : Tensor();
  documents_.assign(starts_size > 0 ? static_cast<size_t>(count) : 0, 0);
  longest_ = documents_;
  for (int64_t s = 0; s < static_cast<int64_t>(documents_.size()); ++s) {
    const int32_t* start = host + tokens_size + s * S;
    auto &documents = documents_[static_cast<size_t>(s)], &longest = longest_[static_cast<size_t>(s)];
    for (int64_t i = 0; i < S; ++i) {
      documents += start[i] == i;
      longest = std::max(longest, i + 1 - start[i]);
    }
  }
}

MicroBatch BatchBuffer::At(int64_t begin, int64_t count) const {
  MicroBatch micro{
      .sequences = count, .sequence_length = sequence_length_, .tokens = tokens_.Rows(begin, count), .document_start = {}};
  if (!document_start_) return micro;
  micro.document_start = document_start_.Rows(begin, count);
  for (int64_t s = begin; s < begin + count; ++s) {
    micro.documents += documents_[static_cast<size_t>(s)];
    micro.longest_document = std::max(micro.longest_document, longest_[static_cast<size_t>(s)]);
  }
  return micro;
}

StepTotals::StepTotals(const Stream& stream, int64_t micro_batches, int64_t loss_terms, int64_t moe_layers, int64_t experts)
    : stream_(stream),
      loss_terms_(loss_terms),
      moe_layers_(moe_layers),
      experts_(experts),
      words_(kFp8Words + micro_batches * (loss_terms + moe_layers * experts)),
      host_(stream.device, words_ * kWord),
      arena_("step totals", Arena::SliceBytes(DType::kI64, {words_}), stream.device) {
  all_ = arena_.Allocate("step totals", DType::kI64, {words_});
  fp8_ = Tensor::Of(all_.as<int64_t>(), {kFp8Words});
  rows_ = Tensor::Of(all_.as<int64_t>() + kFp8Words, {words_ - kFp8Words});
  Clear();
}

int64_t StepTotals::RowBegin(int64_t micro_batch) const {
  const int64_t begin = kFp8Words + micro_batch * (loss_terms_ + moe_layers_ * experts_);
  JEVONS_CHECK(begin < words_, "micro-batch %lld was not planned", static_cast<long long>(micro_batch));
  return begin;
}

MicroBatchTotals StepTotals::Row(int64_t micro_batch) const {
  int64_t* row = all_.as<int64_t>() + RowBegin(micro_batch);
  return {.losses = reinterpret_cast<double*>(row), .counts = Tensor::Of(row + loss_terms_, {moe_layers_, experts_})};
}

void StepTotals::Begin() { Zero(stream_, rows_); }

void StepTotals::BeginRead() { CopyBytes(stream_, all_.data, host_.data(), all_.bytes()); }

void StepTotals::Clear() { Zero(stream_, fp8_); }

std::span<const double> StepTotals::losses(int64_t micro_batch) const {
  return {reinterpret_cast<const double*>(Host(RowBegin(micro_batch))), static_cast<size_t>(loss_terms_)};
}

std::span<const int64_t> StepTotals::counts(int64_t micro_batch) const {
  return {Host(RowBegin(micro_batch) + loss_terms_), static_cast<size_t>(moe_layers_ * experts_)};
}

}  // namespace jevons
