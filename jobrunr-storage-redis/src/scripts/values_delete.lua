-- Removes all values of a name; returns how many there were.
local key = base .. 'values:' .. argument()
local gone = call('HLEN', key)
call('UNLINK', key)
return gone
