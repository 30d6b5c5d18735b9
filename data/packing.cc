#include "data/packing.h"

#include <algorithm>
#include <utility>

#include "data/keys.h"
#include "data/permutation.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {

PackedDataset::PackedDataset(std::unique_ptr<const IndexedDataset> dataset, const DocumentOrder::Config& order,
                             const FimTokens& fim)
    : dataset_(std::move(dataset)), order_(*dataset_, order), fim_(fim), key_(order.key) {}

Range PackedDataset::ShuffledAmong(int64_t index, int64_t seq_len, const Extent& extent) const {
  const int64_t epoch = order_.EpochOf(extent.begin + index * seq_len);
  const auto first_of = [&](int64_t e) {
    return (std::max<int64_t>(0, order_.EpochStart(e) - extent.begin) + seq_len - 1) / seq_len;
  };
  return {first_of(epoch), std::min(first_of(epoch + 1), extent.samples)};
}

int64_t PackedDataset::ShuffledSample(int64_t index, int64_t seq_len, const Extent& extent) const {
  const Range among = ShuffledAmong(index, seq_len, extent);
  const auto epoch = static_cast<uint64_t>(order_.EpochOf(extent.begin + index * seq_len));
  const Permutation shuffle(among.size(), DeriveKey(key_, KeyPurpose::kSampleOrder, epoch));
  return among.begin + shuffle.At(index - among.begin);
}

absl::Status PackedDataset::Read(int64_t position, std::span<int32_t> tokens, std::span<int32_t> document_start) {
  JEVONS_CHECK(!tokens.empty() && (document_start.empty() || document_start.size() + 1 == tokens.size()));
  const auto count = static_cast<int64_t>(tokens.size());
  const auto marked = static_cast<int64_t>(document_start.size());
  for (int64_t done = 0; done < count;) {
    const DocumentOrder::Item item = order_.At(position + done);
    const int64_t take = std::min(item.end - position, count) - done;
    JEVONS_RETURN_IF_ERROR(
        ReadItem(item, position + done - item.begin, tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(take))));
    const int64_t mark_end = std::min(done + take, marked);
    for (int64_t i = done; i < mark_end; ++i) document_start[static_cast<size_t>(i)] = static_cast<int32_t>(done);
    done += take;
  }
  return absl::OkStatus();
}

std::vector<DocumentPart> PackedDataset::Parts(int64_t position, int64_t count) {
  std::vector<DocumentPart> parts;
  for (int64_t done = 0; done < count; done += parts.back().tokens) {
    const DocumentOrder::Item item = order_.At(position + done);
    parts.push_back({.document = item.document,
                     .epoch = item.epoch,
                     .offset = position + done - item.begin,
                     .tokens = std::min(item.end - position, count) - done,
                     .fim = item.fim});
  }
  return parts;
}

absl::Status PackedDataset::ReadItem(const DocumentOrder::Item& item, int64_t offset, std::span<int32_t> out) const {
  if (!item.fim) return dataset_->Read(dataset_->DocumentStart(item.document) + offset, out);
  const uint64_t key =
      DeriveKey(key_, KeyPurpose::kFimCut, static_cast<uint64_t>(item.epoch), static_cast<uint64_t>(item.document));
  JEVONS_ASSIGN_OR_RETURN(const FimDocument document, FimDocument::Open(*dataset_, item.document, key, fim_));
  return document.Read(offset, out);
}

void SplitInputsAndLabels(std::span<const int32_t> tokens, std::span<int32_t> inputs, std::span<int32_t> labels) {
  JEVONS_CHECK(inputs.size() + 1 == tokens.size() && labels.size() == inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    inputs[i] = std::max(tokens[i], 0);
    labels[i] = tokens[i + 1];
  }
}

}  // namespace jevons
