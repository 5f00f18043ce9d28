-- Removes the servers whose last heartbeat was before an instant; returns which.
local before = argument()
local servers = base .. 'servers'
local stored, silent = call('HGETALL', servers), {}
for index = 1, #stored, 2 do
  local id = string.match(stored[index], '^(%x+):last$')
  if id and stored[index + 1] < before then
    silent[#silent + 1] = id
    call('HDEL', servers, id .. ':announced', id .. ':first', id .. ':last', id .. ':load')
  end
end
return silent
