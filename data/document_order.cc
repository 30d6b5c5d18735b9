#include "data/document_order.h"

#include <algorithm>
#include <cmath>

#include "data/fim.h"
#include "data/keys.h"
#include "kernels/base/check.h"
#include "kernels/base/partition.h"

namespace jevons {
namespace {

Permutation MakePermutation(bool shuffle, int64_t size, uint64_t key) {
  return shuffle ? Permutation(size, key) : Permutation(size);
}

}  // namespace

DocumentOrder::DocumentOrder(const IndexedDataset& dataset, const Config& config)
    : dataset_(&dataset),
      config_(config),
      fim_share_(static_cast<uint64_t>(std::llround(std::ldexp(config.fim_rate, 32)))),
      bucketing_(MakePermutation(config.shuffle, dataset.documents(), DeriveKey(config.key, KeyPurpose::kBucketing))) {
  JEVONS_CHECK(dataset.tokens() > 0);
  SumBuckets();
}

void DocumentOrder::SumBuckets() {
  const int64_t documents = dataset_->documents();
  const int64_t buckets = (documents + config_.bucket_documents - 1) / config_.bucket_documents;
  bucket_tokens_.assign(static_cast<size_t>(buckets), 0);
  eligible_before_.assign(static_cast<size_t>(buckets) + 1, 0);
  for (int64_t document = 0; document < documents; ++document) {  // in the order of the file: the .idx is streamed
    const auto bucket = static_cast<size_t>(BlockOwner(documents, buckets, bucketing_.PositionOf(document)));
    const int64_t length = dataset_->DocumentLength(document);
    longest_ = std::max(longest_, length);
    bucket_tokens_[bucket] += length;
    eligible_before_[bucket + 1] += length >= kFimMinTokens;
  }
  for (size_t bucket = 0; bucket < bucket_tokens_.size(); ++bucket) {
    eligible_before_[bucket + 1] += eligible_before_[bucket];
  }
}

int64_t DocumentOrder::FimChosen(int64_t eligible) const {
  return static_cast<int64_t>((static_cast<unsigned __int128>(eligible) * fim_share_) >> 32);
}

int64_t DocumentOrder::FimChosenInBucket(int64_t bucket) const {
  const int64_t before = epoch_ * eligible_before_.back();
  return FimChosen(before + eligible_before_[static_cast<size_t>(bucket) + 1]) -
         FimChosen(before + eligible_before_[static_cast<size_t>(bucket)]);
}

int64_t DocumentOrder::EpochStart(int64_t epoch) const {
  return epoch * dataset_->tokens() + kFimExtraTokens * FimChosen(epoch * eligible_before_.back());
}

int64_t DocumentOrder::EpochOf(int64_t position) const {
  int64_t epoch = 0, beyond = position / dataset_->tokens() + 1;  // an epoch has at least tokens() tokens
  while (beyond - epoch > 1) {
    const int64_t middle = epoch + (beyond - epoch) / 2;
    (EpochStart(middle) <= position ? epoch : beyond) = middle;
  }
  return epoch;
}

void DocumentOrder::EnterEpoch(int64_t epoch) {
  epoch_ = epoch;
  place_ = -1;
  const auto buckets = static_cast<int64_t>(bucket_tokens_.size());
  const Permutation order =
      MakePermutation(config_.shuffle, buckets, DeriveKey(config_.key, KeyPurpose::kBucketOrder, static_cast<uint64_t>(epoch)));
  bucket_at_.clear();
  place_begin_.assign(1, EpochStart(epoch));
  for (int64_t place = 0; place < buckets; ++place) {
    const int64_t bucket = order.At(place);
    bucket_at_.push_back(bucket);
    place_begin_.push_back(place_begin_.back() + bucket_tokens_[static_cast<size_t>(bucket)] +
                           kFimExtraTokens * FimChosenInBucket(bucket));
  }
}

void DocumentOrder::EnterBucket(int64_t place) {
  place_ = place;
  const int64_t bucket = bucket_at_[static_cast<size_t>(place)];
  const Range range = BlockOf(dataset_->documents(), static_cast<int64_t>(bucket_tokens_.size()), bucket);
  const auto epoch = static_cast<uint64_t>(epoch_);
  const uint64_t key = DeriveKey(config_.key, KeyPurpose::kDocumentOrder, epoch, static_cast<uint64_t>(bucket));
  const Permutation order = MakePermutation(config_.shuffle, range.size(), key);
  const auto bucket_index = static_cast<size_t>(bucket);
  const Permutation choice(eligible_before_[bucket_index + 1] - eligible_before_[bucket_index],
                           DeriveKey(key, KeyPurpose::kFimChoice));
  const int64_t chosen = FimChosenInBucket(bucket);
  entries_.clear();
  int64_t begin = place_begin_[static_cast<size_t>(place)];
  int64_t eligible = 0;
  for (int64_t i = 0; i < range.size(); ++i) {
    const int64_t document = bucketing_.At(range.begin + order.At(i));
    const int64_t length = dataset_->DocumentLength(document);
    const bool fim = length >= kFimMinTokens && choice.At(eligible++) < chosen;
    entries_.push_back({document, begin, fim});
    begin += length + (fim ? kFimExtraTokens : 0);
  }
  entries_.push_back({-1, begin, false});
  JEVONS_CHECK(begin == place_begin_[static_cast<size_t>(place) + 1]);
}

DocumentOrder::Item DocumentOrder::At(int64_t position) {
  if (epoch_ < 0 || position < place_begin_.front() || position >= place_begin_.back()) EnterEpoch(EpochOf(position));
  if (place_ < 0 || position < entries_.front().begin || position >= entries_.back().begin) {
    const auto after = std::upper_bound(place_begin_.begin(), place_begin_.end(), position);
    EnterBucket(after - place_begin_.begin() - 1);
  }
  // The last of several that begin here: those before it are empty.
  const auto after = std::upper_bound(entries_.begin(), entries_.end(), position,
                                      [](int64_t value, const Entry& entry) { return value < entry.begin; });
  const auto entry = after - 1;
  return {entry->document, epoch_, entry->begin, after->begin, entry->fim};
}

}  // namespace jevons
