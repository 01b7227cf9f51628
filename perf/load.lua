-- wrk script: requests of one MIX, PIPELINE of them in a row; at the end a line of errors and a line of latencies.
--
--   create   unique apelidos; each thread counts by itself, and RUN makes runs differ
--   targets  GETs of the targets in the file TARGETS, a line each, in random order (SEED)
--   contest  both, in the contest's shares: GETs from TARGETS, searches from TERMS, and the search without a term
--
-- STACK is how many items a create's stack has.
local mix = os.getenv("MIX") or "create"
local run = os.getenv("RUN") or tostring(os.time())
local depth = tonumber(os.getenv("PIPELINE") or "1")
-- The numbers of the contest's requests: creates, lookups, searches, and those that are refused with 400.
local shares = { 54635, 46576, 9590, 4190 }
local technologies = { "C#", "Node", "Oracle", "Postgres", "Rust", "Python", "Java", "Kotlin", "Elixir", "Ruby", "Go", "PHP", "Scala" }

local threads = {}
function setup(thread)
  thread:set("number", #threads)
  threads[#threads + 1] = thread
end

-- Globals, as `done` asks each thread for them.
count, refused = 0, 0

local headers, body, targets, terms, invalid = {}, "", {}, {}, ""

local function lines(name)
  local requests = {}
  for line in io.lines(os.getenv(name)) do
    requests[#requests + 1] = wrk.format("GET", line)
  end
  return requests
end

local function create()
  count = count + 1
  return wrk.format("POST", "/pessoas", headers, body:format(string.format("%s-%d-%d", run, number, count)))
end

local function any(requests)
  return requests[math.random(#requests)]
end

local function contest()
  local at = math.random(shares[1] + shares[2] + shares[3] + shares[4])
  if at <= shares[1] then return create() end
  if at <= shares[1] + shares[2] then return any(targets) end
  if at <= shares[1] + shares[2] + shares[3] then return any(terms) end
  refused = refused + 1
  return invalid
end

local one = create

function init(args)
  math.randomseed(tonumber(os.getenv("SEED") or "1") + number)
  for name, value in pairs(wrk.headers) do headers[name] = value end
  headers["Content-Type"] = "application/json"
  local stack = {}
  for position = 1, tonumber(os.getenv("STACK") or #technologies) do
    stack[position] = '"' .. technologies[(position - 1) % #technologies + 1] .. '"'
  end
  body = '{"apelido":"%s","nome":"Ana Beatriz Carvalho de Albuquerque e Silva Moreira","nascimento":"2000-10-01",'
    .. '"stack":[' .. table.concat(stack, ",") .. ']}'
  if mix ~= "create" then targets = lines("TARGETS") end
  if mix == "targets" then one = function() return any(targets) end end
  if mix == "contest" then
    terms, invalid, one = lines("TERMS"), wrk.format("GET", "/pessoas"), contest
  end
end

function request()
  if depth == 1 then return one() end
  local requests = {}
  for position = 1, depth do requests[position] = one() end
  return table.concat(requests)
end

function done(summary, latency, requests)
  local expected = 0
  for _, thread in ipairs(threads) do expected = expected + thread:get("refused") end
  -- `refused` also counts requests that were under way at the end and got no answer, so the difference may be negative.
  local status = math.max(0, summary.errors.status - expected)
  print(string.format("errors: connect %d, status %d, timeout %d, read %d, write %d", summary.errors.connect, status,
    summary.errors.timeout, summary.errors.read, summary.errors.write))
  print(string.format("latency ms: p50 %.2f p99 %.2f p99.9 %.2f max %.2f", latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency:percentile(99.9) / 1000, latency.max / 1000))
end
