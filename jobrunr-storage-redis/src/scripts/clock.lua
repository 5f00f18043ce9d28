-- Tells the time of the storage, and does what has to do with it: `time` nothing else, `announce` adds or changes a server,
-- `beat` notes that one is alive. Returns the time, and whether the server is there.
--
-- The time does not go back with a clock that goes back a little, as when it is adjusted or a replica takes over. By more than
-- this it was wrong: then the time follows it, or all would stand still for as long as it was ahead.
local SECONDS_HELD_BACK = 5
local act, id, text = argument(), argument(), argument()
local clock = call('TIME')
-- Seconds and microseconds are put together as text, as in encoding.rs: a time after 1970 begins with a one.
local now = '1' .. format('%013d', tonumber(clock[1])) .. format('%06d', tonumber(clock[2]))
local told = call('GET', base .. 'clock')
local servers = base .. 'servers'
if told and told > now and tonumber(sub(told, 2, 14)) - tonumber(clock[1]) <= SECONDS_HELD_BACK then
  now = told
else
  if told and told > now then
    -- Who was heard by the wrong clock was heard by now, or its silence would not be noticed for as long.
    local stored = call('HGETALL', servers)
    for index = 1, #stored, 2 do
      if string.match(stored[index], ':last$') and stored[index + 1] > now then
        call('HSET', servers, stored[index], now)
      end
    end
  end
  call('SET', base .. 'clock', now)
end
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
