#include "plan/latency_table.h"

#include <array>
#include <cmath>
#include <cstdlib>

#include "core/error.h"
#include "core/file.h"
#include "plan/json_fields.h"

namespace bitstrata::plan {
namespace {

double rounded(double us) {
  return std::round(us * 1e3) / 1e3;
}

Json shape_json(const LayerShape& shape) {
  const program::Window& w = shape.window;
  return {{"kind", shape.is_linear ? "linear" : "conv"},
          {"in_channels", shape.in_channels},
          {"height", shape.height},
          {"width", shape.width},
          {"out_channels", shape.out_channels},
          {"groups", shape.groups},
          {"kernel", {w.kernel_h, w.kernel_w}},
          {"strides", {w.stride_h, w.stride_w}},
          {"dilations", {w.dilation_h, w.dilation_w}},
          {"pads", {w.pad_top, w.pad_left, w.pad_bottom, w.pad_right}},
          {"signed_input", shape.signed_input},
          {"epilogue", shape.epilogue},
          {"stores", shape.stores}};
}

/// Text on one line; names that are not UTF-8 get replacement characters.
std::string line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int at_least(int value, int lowest, const std::string& where, const char* key) {
  if (value < lowest)
    fail(ErrorCode::kBadInput, "{}: key '{}': found {}, expected at least {}", where, key, value, lowest);
  return value;
}

double microseconds(double value, const std::string& where, const char* key) {
  if (!(value >= 0) || !std::isfinite(value)) {
    fail(ErrorCode::kBadInput, "{}: key '{}': found {}, expected microseconds", where, key, value);
  }
  return value;
}

template <size_t N>
std::array<int, N> integers(Fields& fields, const char* key, int lowest, const std::string& where) {
  const Json& list = fields.array(key);
  std::array<int, N> values{};
  bool fits = list.size() == N;
  for (size_t i = 0; fits && i < N; ++i) {
    fits = list[i].is_number_unsigned() && list[i].get<uint64_t>() <= uint64_t{program::kMaxWindow} &&
           list[i].get<int>() >= lowest;
    if (fits) values[i] = list[i].get<int>();
  }
  if (!fits) {
    fail(ErrorCode::kBadInput, "{}: key '{}': found {}, expected {} integers of at least {}", where, key,
         printable(list.dump(), 60), N, lowest);
  }
  return values;
}

LayerShape read_shape(const Json& json, const std::string& where) {
  Fields fields(json, where);
  LayerShape shape;
  const auto kind = fields.get<std::string>("kind");
  if (kind != "conv" && kind != "linear") {
    fail(ErrorCode::kBadInput, "{}: key 'kind': found '{}', expected conv or linear", where,
         printable(kind, 60));
  }
  const auto size = [&](const char* key) { return at_least(fields.get<int>(key), 1, where, key); };
  shape.is_linear = kind == "linear";
  shape.in_channels = size("in_channels");
  shape.height = size("height");
  shape.width = size("width");
  shape.out_channels = size("out_channels");
  shape.groups = size("groups");
  const auto kernel = integers<2>(fields, "kernel", 1, where),
             strides = integers<2>(fields, "strides", 1, where);
  const auto dilations = integers<2>(fields, "dilations", 1, where);
  const auto pads = integers<4>(fields, "pads", 0, where);
  shape.window = {kernel[0],    kernel[1], strides[0], strides[1], dilations[0],
                  dilations[1], pads[0],   pads[1],    pads[2],    pads[3]};
  shape.signed_input = fields.get<bool>("signed_input");
  shape.epilogue = fields.get<std::string>("epilogue");
  shape.stores = size("stores");
  fields.finish();
  return shape;
}

LatencyTable::Entry read_entry(const Json& json, const std::string& where) {
  Fields fields(json, where);
  LatencyTable::Entry entry;
  const auto bits = [&](const char* key) {
    const int value = fields.get<int>(key);
    if (value < 1 || value > 8)
      fail(ErrorCode::kBadInput, "{}: key '{}': found {}, expected 1 to 8", where, key, value);
    return value;
  };
  entry.weight_bits = bits("w_bits");
  entry.activation_bits = bits("a_bits");
  entry.kernel = fields.get<std::string>("kernel");
  entry.us = microseconds(fields.get<double>("us"), where, "us");
  fields.finish();
  return entry;
}

const LatencyTable::Entry* find_entry(const LatencyTable::Shape& shape, int weight_bits,
                                      int activation_bits) {
  for (const auto& entry : shape.entries) {
    if (entry.weight_bits == weight_bits && entry.activation_bits == activation_bits) return &entry;
  }
  return nullptr;
}

LatencyTable::Shape read_layer(const Json& json, const std::string& where) {
  Fields fields(json, where);
  LatencyTable::Shape read;
  read.shape = read_shape(fields.object("shape"), where + ": shape");
  for (const Json& layer : fields.array("layers")) {
    if (!layer.is_string()) fail(ErrorCode::kBadInput, "{}: key 'layers': expected names", where);
    read.layers.push_back(layer.get<std::string>());
  }
  for (const Json& entry : fields.array("entries")) {
    auto found = read_entry(entry, fmt::format("{}: entry {}", where, read.entries.size()));
    if (find_entry(read, found.weight_bits, found.activation_bits) != nullptr) {
      fail(ErrorCode::kBadInput, "{}: {} x {} bits are listed twice", where, found.weight_bits,
           found.activation_bits);
    }
    read.entries.push_back(std::move(found));
  }
  fields.finish();
  return read;
}

/// The table's shape that stands for `shape`: itself, or the one with the nearest number of stores.
const LatencyTable::Shape* find_shape(const LatencyTable& table, const LayerShape& shape) {
  const LatencyTable::Shape* nearest = nullptr;
  const auto distance = [&](const LatencyTable::Shape& other) {
    return std::abs(other.shape.stores - shape.stores);
  };
  for (const auto& candidate : table.shapes) {
    LayerShape same_stores = candidate.shape;
    same_stores.stores = shape.stores;
    if (same_stores == shape && (nearest == nullptr || distance(candidate) < distance(*nearest)))
      nearest = &candidate;
  }
  return nearest;
}

/// Options of the profile command that measures as `machine` says.
std::string profile_options(const Machine& machine) {
  return fmt::format("--isa {} --threads {} --batch {}", machine.isa, machine.threads, machine.batch);
}

}  // namespace

std::string to_json(const LatencyTable& table) {
  std::string text = "{\n  \"version\": 1,\n";
  text += fmt::format("  \"cpu\": {},\n  \"isa\": {},\n", line(table.machine.cpu), line(table.machine.isa));
  text += fmt::format("  \"threads\": {},\n  \"batch\": {},\n", table.machine.threads, table.machine.batch);
  text += fmt::format("  \"policy\": \"{}\",\n", quant::to_string(table.policy));
  text += fmt::format("  \"network\": {},\n  \"fixed_us\": {},\n", line(table.network),
                      table.fixed_us ? line(rounded(*table.fixed_us)) : "null");
  text += "  \"shapes\": [";
  for (size_t s = 0; s < table.shapes.size(); ++s) {
    const auto& shape = table.shapes[s];
    text += fmt::format("{}\n    {{ \"shape\": {},\n      \"layers\": {},\n      \"entries\": [",
                        s ? "," : "", line(shape_json(shape.shape)), line(shape.layers));
    for (size_t e = 0; e < shape.entries.size(); ++e) {
      const auto& entry = shape.entries[e];
      text += (e ? ",\n        " : "\n        ") + line({{"w_bits", entry.weight_bits},
                                                         {"a_bits", entry.activation_bits},
                                                         {"kernel", entry.kernel},
                                                         {"us", rounded(entry.us)}});
    }
    text += "] }";
  }
  return text + "\n  ]\n}\n";
}

LatencyTable latency_table_from_json(const std::string& text, const std::string& name) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: not valid JSON: {}", name, printable(error.what()));
  }
  Fields top(json, name);
  const int version = top.get<int>("version");
  if (version != 1) {
    fail(ErrorCode::kUnsupported, "{}: found latency table version {}, expected 1; use a newer bitstrata",
         name, version);
  }
  LatencyTable table;
  table.machine.cpu = top.get<std::string>("cpu");
  table.machine.isa = top.get<std::string>("isa");
  table.machine.threads = at_least(top.get<int>("threads"), 1, name, "threads");
  table.machine.batch = at_least(top.get<int>("batch"), 1, name, "batch");
  table.policy = top.get<quant::Policy>("policy");
  table.network = top.get<std::string>("network", "");
  if (json.contains("fixed_us") && json["fixed_us"].is_null()) {
    top.skip("fixed_us");
  } else {
    table.fixed_us = microseconds(top.get<double>("fixed_us"), name, "fixed_us");
  }
  for (const Json& shape : top.array("shapes")) {
    auto read = read_layer(shape, fmt::format("{}: shape {}", name, table.shapes.size()));
    for (const auto& other : table.shapes) {
      if (other.shape == read.shape) {
        fail(ErrorCode::kBadInput, "{}: the shape {} is listed twice", name, to_string(read.shape));
      }
    }
    table.shapes.push_back(std::move(read));
  }
  top.finish();
  return table;
}

LatencyTable read_latency_table(const std::filesystem::path& path) {
  return latency_table_from_json(read_text_file(path), printable(path.string()));
}

void check_machine(const LatencyTable& table, const Machine& here, const std::string& name) {
  const Machine& there = table.machine;
  const auto refuse = [&](const char* what, const auto& found, const auto& expected) {
    fail(ErrorCode::kBadInput,
         "{}: measured with {} {}, but this run has {}; measure again with bitstrata profile {}", name, what,
         found, expected, profile_options(here));
  };
  if (there.cpu != here.cpu) refuse("CPU", printable(there.cpu), printable(here.cpu));
  if (there.isa != here.isa) refuse("instruction set", printable(there.isa), printable(here.isa));
  if (there.threads != here.threads) refuse("threads", there.threads, here.threads);
  if (there.batch != here.batch) refuse("batch", there.batch, here.batch);
}

double layer_us(const LatencyTable& table, const std::string& layer, const LayerShape& shape, int weight_bits,
                int activation_bits) {
  const LatencyTable::Shape* found = find_shape(table, shape);
  if (found == nullptr) {
    fail(ErrorCode::kBadInput,
         "layer '{}': the latency table has no shape {}; measure it with bitstrata profile NETWORK {}",
         printable(layer), to_string(shape), profile_options(table.machine));
  }
  const LatencyTable::Entry* entry = find_entry(*found, weight_bits, activation_bits);
  if (entry == nullptr) {
    fail(ErrorCode::kBadInput,
         "layer '{}': the latency table has no entry for {} weight bits x {} activation bits; measure it "
         "with bitstrata profile "
         "NETWORK --bits with both of them, {}",
         printable(layer), weight_bits, activation_bits, profile_options(table.machine));
  }
  return entry->us;
}

std::vector<LayerLatency> layer_latencies(const graph::Graph& graph, const LatencyTable& table,
                                          std::span<const int> weight_bits,
                                          std::span<const int> activation_bits) {
  constexpr int kPixelBits[] = {8};
  std::vector<LayerLatency> latencies;
  for (const NamedShape& layer : layer_shapes(graph)) {
    for (int w : weight_bits) {
      for (int a : layer.reads_graph_input ? std::span<const int>(kPixelBits) : activation_bits) {
        latencies.push_back({layer.layer, w, a, layer_us(table, layer.layer, layer.shape, w, a) / 1e3});
      }
    }
  }
  return latencies;
}

}  // namespace bitstrata::plan
