-- Tells the time of the storage, which never goes back, and does what has to do with it: `time` nothing else, `announce`
-- adds or changes a server, `beat` notes that one is alive. Returns the time, and whether the server is there.
local act, id, text = argument(), argument(), argument()
local clock = call('TIME')
-- Seconds and microseconds are put together as text, as in encoding.rs: a time after 1970 begins with a one.
local now = '1' .. format('%013d', tonumber(clock[1])) .. format('%06d', tonumber(clock[2]))
local told = call('GET', base .. 'clock')
if told and told > now then
  now = told
else
  call('SET', base .. 'clock', now)
end
local servers = base .. 'servers'
local is_there = call('HEXISTS', servers, id .. ':announced') == 1
if act == 'announce' then
  call('HSET', servers, id .. ':announced', text)
  if not is_there then
    call('HSET', servers, id .. ':first', now, id .. ':last', now)
  end
elseif act == 'beat' and is_there then
  call('HSET', servers, id .. ':last', now, id .. ':load', text)
end
return { now, is_there and 1 or 0 }
