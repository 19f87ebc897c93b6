// Many backends in one: each path /box/NN/… is a backend of its own, with tools that no other has. /boxes/NN/… lists, as one
// backend's, what an aggregate of the first NN lists, under the names that the gateway gives them: a list of the same size.
#ifndef BOXES_H
#define BOXES_H

#include "wire.h"

enum { BOX_TOOLS = 50, MAX_BOXES = 99 };

typedef struct { int number, count; } Box;  // number: which one it is, 0 for none; count: how many are listed there, 0 for none

Box box_at(Span head);
Span box_tools(Box box);                    // the JSON array
int box_has(Box box, Span name);            // whether it has an echo tool of that name, which is its raw JSON

#endif
