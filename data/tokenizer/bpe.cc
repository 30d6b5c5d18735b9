#include "data/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>

#include "kernels/base/check.h"

namespace jevons {
namespace {

constexpr int32_t kGone = -1;
constexpr int32_t kLong = 1 << 12;  // bytes

}  // namespace

std::optional<MergeLoop::Candidate> MergeLoop::CandidateAt(const MergeRanks& ranks, int32_t position) const {
  const int32_t next = position < 0 ? 0 : symbols_[position].next;
  if (position < 0 || next == static_cast<int32_t>(symbols_.size())) return std::nullopt;
  const int32_t left = symbols_[position].id, right = symbols_[next].id;
  const MergeRanks::Rank* found = ranks.Find(left, right);
  if (found == nullptr) return std::nullopt;
  return Candidate{found->rank, position, {left, right, found->result}};
}

// A symbol only ever grows, so the id of one that has never comes back.
bool MergeLoop::Join(const Candidate& candidate) {
  const int32_t n = static_cast<int32_t>(symbols_.size());
  Symbol& left = symbols_[candidate.position];
  if (left.id != candidate.merge.left || left.next == n || symbols_[left.next].id != candidate.merge.right) return false;
  Symbol& right = symbols_[left.next];
  left.id = candidate.merge.result;
  left.next = right.next;
  if (right.next < n) symbols_[right.next].previous = candidate.position;
  right.id = kGone;
  return true;
}

void MergeLoop::RunShort(const MergeRanks& ranks) {
  heap_.clear();
  const auto propose = [&](int32_t position) {
    const std::optional<Candidate> candidate = CandidateAt(ranks, position);
    if (!candidate) return;
    heap_.push_back(*candidate);
    std::push_heap(heap_.begin(), heap_.end(), Later);
  };
  for (int32_t i = 0; i < static_cast<int32_t>(symbols_.size()); ++i) propose(i);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    const Candidate best = heap_.back();
    heap_.pop_back();
    if (!Join(best)) continue;
    propose(symbols_[best.position].previous);
    propose(best.position);
  }
}

void MergeLoop::RunLong(const MergeRanks& ranks) {
  struct Bucket {
    Merge merge = {};
    std::vector<int32_t> positions;  // not in order
  };
  absl::flat_hash_map<int32_t, Bucket> buckets;                                // by rank
  std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> waiting;  // ranks whose buckets are not empty
  const auto propose = [&](int32_t position) {
    const std::optional<Candidate> candidate = CandidateAt(ranks, position);
    if (!candidate) return;
    Bucket& bucket = buckets[candidate->rank];
    if (bucket.positions.empty()) waiting.push(candidate->rank);
    bucket.merge = candidate->merge;
    bucket.positions.push_back(position);
  };
  for (int32_t i = 0; i < static_cast<int32_t>(symbols_.size()); ++i) propose(i);
  std::vector<int32_t> positions;
  while (!waiting.empty()) {
    const int32_t rank = waiting.top();
    waiting.pop();
    const Merge merge = buckets[rank].merge;
    positions.clear();
    positions.swap(buckets[rank].positions);
    std::sort(positions.begin(), positions.end());
    for (auto p = positions.begin(); p != positions.end(); ++p) {
      if (!Join({rank, *p, merge})) continue;
      propose(symbols_[*p].previous);
      propose(*p);
      if (waiting.empty() || waiting.top() > rank) continue;
      // A lower rank has come up, which goes first: a token may be made by several merges.
      Bucket& rest = buckets[rank];
      if (rest.positions.empty() && p + 1 != positions.end()) waiting.push(rank);
      rest.positions.insert(rest.positions.end(), p + 1, positions.end());
      break;
    }
  }
}

void MergeLoop::Run(const MergeRanks& ranks, std::span<const int32_t> symbols, std::vector<int32_t>& out) {
  JEVONS_CHECK(symbols.size() <= size_t{std::numeric_limits<int32_t>::max()}, "a word of %zu bytes", symbols.size());
  const int32_t n = static_cast<int32_t>(symbols.size());
  symbols_.resize(symbols.size());
  for (int32_t i = 0; i < n; ++i) symbols_[i] = {symbols[i], i - 1, i + 1};
  n < kLong ? RunShort(ranks) : RunLong(ranks);
  for (int32_t i = 0; i < n; i = symbols_[i].next) out.push_back(symbols_[i].id);
}

}  // namespace jevons
