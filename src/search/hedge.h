#pragma once

#include <cstdint>
#include <span>
#include <vector>

/// Exponential weights over experts (Freund and Schapire 1997; methods.md sheet 34), and how CCQ mixes them
/// with the memory that a move saves.
namespace bitstrata::search {

/// softmax(eta * reward): the Hedge distribution after these cumulative rewards. Invariant to a common shift;
/// uniform for eta = 0.
std::vector<double> hedge_probabilities(std::span<const double> rewards, double eta);

/// (1 - lambda) * first + lambda * second.
std::vector<double> mix(std::span<const double> first, std::span<const double> second, double lambda);

/// Non-negative savings as shares of their sum; empty when nothing is saved. Negative savings count as none.
std::vector<double> saving_shares(std::span<const double> savings);

/// CCQ's weight of the memory in competition q of `total`: 0 for q = 0 and odd q, else max(0, 0.6 (total - q)
/// / total + 0.4).
double memory_weight(int64_t q, int64_t total);

/// Index drawn from probabilities with u in [0, 1); never one of probability 0 while another is positive.
size_t draw(std::span<const double> probabilities, double u);

}  // namespace bitstrata::search
